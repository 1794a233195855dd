"""The span processor that takes every request for billing."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from otel_usageflow.sdk.connection import Connection
from otel_usageflow.sdk.counts import LOG, Stats
from otel_usageflow.sdk.privacy import Privacy
from otel_usageflow.sdk.record import Record
from otel_usageflow.sdk.sampler import enters
from otel_usageflow.sdk.sender import Limits, Sender
from otel_usageflow.sdk.user import as_user
from otel_usageflow.sdk.visit import CURRENT, Visit

USER = "enduser.id"
MOST_OPEN = 100_000
"""Requests that may be open at once. More are spans that somebody never ended."""


class BillingSpanProcessor(SpanProcessor):
    """Takes every SERVER span that enters the process, sampled or not, and sends it to the service by itself.

    Nothing is blocked, and nothing is raised, by a span that ends.

    Args:
        endpoint: of the service's `otlp` receiver, HTTP; not given: `OTEL_USAGEFLOW_ENDPOINT`, then `http://127.0.0.1:4318`.
        user: finds the user by the span's attributes, where there is no middleware of this package.
        attribute: what the user is called on the span: `user: {metadata: enduser.id}` in a policy.
        keep: keys of attributes that may leave the app, though they could hold a secret.
        strip: beginnings of further keys that may not.
        headers: sent with every export, for example `{"authorization": "Bearer ..."}`.
        certificate: a file of certificates to trust, for https.
        limits: of the queue, in numbers and in time.

    Raises:
        ValueError: no such endpoint can be.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        user: Callable[[Mapping[str, Any]], str | int | None] | None = None,
        attribute: str = USER,
        keep: Iterable[str] = (),
        strip: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        certificate: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._user = user
        self._attribute = attribute
        self._privacy = Privacy(keep, strip)
        self._sender = Sender(Connection(endpoint, headers, certificate), limits or Limits())
        self._open: dict[int, Visit | None] = {}
        """Entered spans that have not ended, by their id; None for a second one of a request."""
        self._lock = threading.RLock()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Remember a request that has entered."""
        try:
            if span.kind is SpanKind.SERVER and enters(span.parent) and span.context is not None:
                self._begin(span.context.span_id, span.attributes or {})
        except Exception:  # noqa: BLE001 - billing must never break the app
            LOG.debug("a span was not taken", exc_info=True)

    def _begin(self, span_id: int, attributes: Mapping[str, Any]) -> None:
        visit = CURRENT.get()
        if visit is None or visit.ended or visit.request is None:
            visit = Visit()
            CURRENT.set(visit)  # where there is no middleware, so that set_user finds it
        elif visit.span_id is not None:
            # A second instrumentation of the same request. What is no HTTP span is no second one.
            if "http.request.method" not in attributes and "http.method" not in attributes:
                visit = Visit()
            else:
                self._sender.counts.add("duplicates")
                self._open[span_id] = None
                return
        visit.span_id = span_id
        self._open[span_id] = visit
        if len(self._open) > MOST_OPEN:
            with self._lock:
                self._open.pop(next(iter(self._open)), None)
            self._sender.counts.add("taken")
            self._sender.counts.add("dropped")

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a request that has ended."""
        try:
            context = span.context
            visit = self._open.pop(context.span_id, None) if context is not None and self._open else None
            if visit is None or context is None:
                return
            visit.ended = True
            scope = span.instrumentation_scope
            self._put(
                visit,
                trace_id=context.trace_id,
                span_id=context.span_id,
                parent_id=span.parent.span_id if span.parent is not None else 0,
                name=span.name,
                start=span.start_time or 0,
                end=span.end_time or time.time_ns(),
                failed=span.status.status_code is StatusCode.ERROR,
                attributes=span.attributes or {},
                resource=span.resource,
                scope=(scope.name, scope.version or "") if scope is not None else ("", ""),
            )
        except Exception:  # noqa: BLE001 - billing must never break the app
            self.lost()

    def take(self, visit: Visit, **span: Any) -> None:
        """Queue a request that no instrumentation has reported; `span` has what `Record` has."""
        try:
            visit.ended = True
            self._sender.counts.add("made")
            self._put(visit, **span)
        except Exception:  # noqa: BLE001 - billing must never break the app
            self.lost()

    def _put(self, visit: Visit, *, attributes: Mapping[str, Any], **span: Any) -> None:
        left, weight = self._privacy.attributes(attributes)
        if visit.request is not None:
            # As the client sent it. Instrumentations leave it out, decode it, or lose the prefix of a mounted app.
            left["url.path"] = visit.request.path
        left |= visit.added()
        user = self._user_of(visit, attributes)
        if user is not None:
            left[self._attribute] = user
        elif self._attribute not in left:
            self._sender.counts.add("without_user")
        for mistake in visit.mistakes:
            self._mistaken(mistake)
        self._sender.put(Record(attributes=left, weight=weight + 1000, **span))

    def _user_of(self, visit: Visit, attributes: Mapping[str, Any]) -> str | None:
        if visit.user is not None:
            return visit.user
        try:
            if visit.find_user is not None and visit.request is not None:
                return as_user(visit.find_user(visit.request))
            return as_user(self._user(attributes)) if self._user is not None else None
        except Exception as error:  # noqa: BLE001 - the function is the app's: it may raise anything
            self._mistaken(f"user: {type(error).__name__}")
            LOG.debug("the user function failed", exc_info=True)
            return None

    def _mistaken(self, what: str) -> None:
        counts = self._sender.counts
        counts.add("mistakes")
        counts.warn_once("mistake", "a request has no user or no quantity because of a mistake in the app: %s", what)

    def lost(self) -> None:
        """Count a request that could not be read; called where an exception is handled."""
        counts = self._sender.counts
        counts.add("taken")
        counts.add("dropped")
        LOG.debug("a request was not taken", exc_info=True)
        counts.warn_once("lost", "a request is not billed: it could not be read; debug logging has the reason")

    def adopt(self, visit: Visit) -> Visit:
        """The visit of a SERVER span that was started outside of the middleware, made one with the middleware's."""
        outer = CURRENT.get()
        if outer is None or outer.ended or outer.request is not None or outer.span_id not in self._open:
            return visit
        outer.request, outer.find_user = visit.request, visit.find_user
        return outer

    @property
    def limits(self) -> Limits:
        """The limits of the queue."""
        return self._sender.limits

    def stats(self) -> Stats:
        """What became of the requests so far."""
        return self._sender.stats()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits, and say whether the service has answered for all of it in time."""
        return self._sender.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Send what waits, within `limits.exit` seconds, and take nothing more."""
        self._sender.shutdown()
