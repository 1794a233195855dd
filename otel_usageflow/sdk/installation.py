"""`install`: three lines in an app."""

import inspect
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

from opentelemetry import trace

from otel_usageflow.sdk.asgi import AsgiMiddleware
from otel_usageflow.sdk.counts import LOG, Stats
from otel_usageflow.sdk.processor import USER, BillingSpanProcessor
from otel_usageflow.sdk.sampler import BillingSampler
from otel_usageflow.sdk.sender import Limits
from otel_usageflow.sdk.user import FindUser, first_of
from otel_usageflow.sdk.visit import current
from otel_usageflow.sdk.wsgi import WsgiMiddleware

App = TypeVar("App")
_LOCK = threading.Lock()


class Installation:
    """The one of a process: its processor, with what it was made of, and the providers that it is part of."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self.processor = BillingSpanProcessor(**settings)
        self._attached: weakref.WeakSet[Any] = weakref.WeakSet()
        self._seen: object = None

    def prepare(self) -> None:
        """Become part of the global provider, which may be set, or set by another, after `install`."""
        provider = trace.get_tracer_provider()
        if provider is not self._seen:
            self._seen = provider
            self.attach(provider)

    def attach(self, provider: Any) -> None:
        """Take a provider's requests, sampled or not."""
        if not hasattr(provider, "add_span_processor") or provider in self._attached:
            return
        try:
            sampler = getattr(provider, "sampler", None)
            if sampler is not None and not isinstance(sampler, BillingSampler):
                provider.sampler = wrapped = BillingSampler(sampler)
                # A tracer keeps the sampler that its provider had when it was made. Where those cannot be
                # reached (another version of the SDK), the middleware makes the spans that they drop.
                for tracer in list(getattr(provider, "_tracers", {}).values()):
                    if getattr(tracer, "sampler", None) is sampler:
                        tracer.sampler = wrapped
            provider.add_span_processor(self.processor)
            self._attached.add(provider)
        except Exception:  # noqa: BLE001 - the middleware bills without it
            LOG.warning(
                "the tracer provider takes no span processor; requests are billed without its spans", exc_info=True
            )


_installed: Installation | None = None


def install(
    app: App,
    *,
    endpoint: str | None = None,
    user: FindUser | Sequence[FindUser] | None = None,
    attribute: str = USER,
    keep: Iterable[str] = (),
    strip: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    certificate: str | None = None,
    limits: Limits | None = None,
    tracer_provider: Any = None,
    kind: Literal["asgi", "wsgi"] | None = None,
) -> App:
    """Bill every request of an app, once.

    FastAPI, Starlette, Flask and Quart apps are changed in place; any other ASGI or WSGI app is wrapped. Several apps
    of a process share one queue.

    Args:
        app: the app, before or after it is instrumented.
        endpoint: of the service's `otlp` receiver, HTTP; not given: `OTEL_USAGEFLOW_ENDPOINT`, then `http://127.0.0.1:4318`.
        user: finds the user of a request, or several in order, of which the first that finds somebody counts.
        attribute: what the user is called on the span: `user: {metadata: enduser.id}` in a policy.
        keep: keys of attributes that may leave the app, though they could hold a secret.
        strip: beginnings of further keys that may not.
        headers: sent with every export, for example `{"authorization": "Bearer ..."}`.
        certificate: a file of certificates to trust, for https.
        limits: of the queue, in numbers and in time.
        tracer_provider: which provider's spans to take, besides the global one's.
        kind: `asgi` or `wsgi`, for an app that does not show which it is.

    Returns:
        The app to serve.

    Raises:
        ValueError: the settings cannot be, or differ from those of an earlier call.
        TypeError: this is no app.
    """
    find = user if user is None or callable(user) else first_of(tuple(user))
    installation = _installation(
        {
            "endpoint": endpoint,
            "attribute": attribute,
            "keep": tuple(keep),
            "strip": tuple(strip),
            "headers": dict(headers or {}),
            "certificate": certificate,
            "limits": limits or Limits(),
        }
    )
    around = _around(app, kind)
    installation.prepare()
    if tracer_provider is not None:
        installation.attach(tracer_provider)

    def asgi(inner: Any) -> Any:
        return AsgiMiddleware(inner, installation.processor, find, installation.prepare)

    def wsgi(inner: Any) -> Any:
        return WsgiMiddleware(inner, installation.processor, find, installation.prepare)

    return cast("App", around(app, asgi, wsgi))


def stats() -> Stats:
    """What became of the requests of this process so far."""
    return Stats() if _installed is None else _installed.processor.stats()


def flush(timeout: float = 5.0) -> bool:
    """Send what waits, and say whether the service has answered for all of it within so many seconds."""
    return _installed is None or _installed.processor.force_flush(int(timeout * 1000))


def shutdown() -> None:
    """Send what waits, within `limits.exit` seconds, and take nothing more; the process does it at its exit."""
    global _installed
    with _LOCK:
        gone, _installed = _installed, None
    if gone is not None:
        gone.processor.shutdown()


def _installation(settings: dict[str, Any]) -> Installation:
    global _installed  # noqa: PLW0603 - the one of the process
    with _LOCK:
        if _installed is None:
            _installed = Installation(settings)
        elif _installed.settings != settings:
            raise ValueError(
                "install() was called before with other settings; only `user` may differ from app to app"
            )
        return _installed


_Around = Callable[[Any, Callable[[Any], Any], Callable[[Any], Any]], Any]


def _around(app: Any, kind: str | None) -> _Around:
    """How to get around an app."""
    if kind == "asgi":
        return lambda app, asgi, _wsgi: asgi(app)
    if kind == "wsgi":
        return lambda app, _asgi, wsgi: wsgi(app)
    if hasattr(app, "build_middleware_stack"):
        return _starlette
    if hasattr(app, "wsgi_app"):
        return _flask
    if hasattr(app, "asgi_app"):
        return _quart
    if not callable(app):
        raise TypeError(f"{app!r} is no app: give FastAPI(), Flask(__name__), get_wsgi_application() or the like")
    asynchronous = inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004
    return _around(app, "asgi" if asynchronous else "wsgi")


def _starlette(app: Any, asgi: Callable[[Any], Any], _wsgi: object) -> Any:
    """Around all that is within the outermost middleware of the stack, which is built at the first request.

    The outermost one stays what it is: instrumentations look for Starlette's `ServerErrorMiddleware` there.
    """

    def around(stack: Any) -> Any:
        if not hasattr(stack, "app"):
            return asgi(stack)
        stack.app = asgi(stack.app)
        return stack

    if app.middleware_stack is not None:
        app.middleware_stack = around(app.middleware_stack)
    else:
        build = app.build_middleware_stack
        app.build_middleware_stack = lambda: around(build())
    return app


def _flask(app: Any, _asgi: object, wsgi: Callable[[Any], Any]) -> Any:
    app.wsgi_app = wsgi(app.wsgi_app)
    before = getattr(app, "before_request_funcs", None)
    if before is not None:
        before.setdefault(None, []).insert(0, _note_flask_route)
    return app


def _note_flask_route() -> None:
    from flask import request

    visit, rule = current(), request.url_rule
    if visit is not None and rule is not None:
        visit.route = rule.rule


def _quart(app: Any, asgi: Callable[[Any], Any], _wsgi: object) -> Any:
    app.asgi_app = asgi(app.asgi_app)
    return app
