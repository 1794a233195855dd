"""The span of a request that no instrumentation has reported, in current semantic conventions (HTTP, stable).

It is made for billing when the response is complete, and nobody else sees it: it is never the current span, and no
exporter gets it. So it changes neither the app's traces nor what is propagated downstream.
"""

import time
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_usageflow.sdk.processor import BillingSpanProcessor
from otel_usageflow.sdk.request import Request
from otel_usageflow.sdk.visit import Visit

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_IDS = RandomIdGenerator()
_CALLER = TraceContextTextMapPropagator()
_UNNAMED = Resource.create()


def make(
    processor: BillingSpanProcessor, visit: Visit, request: Request, start: int, status: int | None, failed: bool
) -> None:
    """Hand a request to the processor.

    Args:
        processor: where it goes.
        visit: what is known of it.
        request: where its method and path stand.
        start: nanoseconds since the epoch.
        status: of the response; None if there was none.
        failed: whether the app raised an error.
    """
    try:
        span = _span(visit, request, status)
    except Exception:  # noqa: BLE001 - billing must never break the app
        processor.lost()
        return
    processor.take(visit, start=start, end=time.time_ns(), failed=failed or (status or 0) >= 500, **span)


def _span(visit: Visit, request: Request, status: int | None) -> dict[str, Any]:
    caller = _caller(request)
    here = trace.get_current_span().get_span_context()
    method = request.method if request.method in METHODS else "HTTP"
    resource = getattr(trace.get_tracer_provider(), "resource", None)
    return {
        # The trace of a span that was not sampled is still the one in which people look for the request.
        "trace_id": caller.trace_id or here.trace_id or _IDS.generate_trace_id(),
        "span_id": _IDS.generate_span_id(),
        "parent_id": caller.span_id,
        "name": f"{method} {visit.route}" if visit.route else method,
        "attributes": _attributes(request, visit.route, status),
        "resource": resource if isinstance(resource, Resource) else _UNNAMED,
        "scope": ("otel_usageflow.sdk", ""),
    }


def _caller(request: Request) -> trace.SpanContext:
    carrier = {name: value for name in ("traceparent", "tracestate") if (value := request.headers.get(name))}
    return (
        trace.get_current_span(_CALLER.extract(carrier)).get_span_context() if carrier else trace.INVALID_SPAN_CONTEXT
    )


def _attributes(request: Request, route: str | None, status: int | None) -> dict[str, Any]:
    method = request.method
    found: dict[str, Any] = {
        "http.request.method": method if method in METHODS else "_OTHER",
        "url.path": request.path,
        "url.scheme": request.scheme,
    }
    if method not in METHODS:
        found["http.request.method_original"] = method
    if request.query_string:
        found["url.query"] = request.query_string  # stripped like any other's, unless it is to be kept
    host = request.headers.get("host")
    if host:
        found["server.address"] = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if route:
        found["http.route"] = route
    if status is not None:
        found["http.response.status_code"] = status
        if status >= 500:
            found["error.type"] = str(status)
    return found
