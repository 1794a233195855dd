"""Which SERVER spans are the inner ones of a request, where the SDK does not say.

An instrumentation inside another (a mounted application, WSGI under Flask) makes a second SERVER span for the
same request, whose parent is the first one. Source: `SpanFlags` in OTLP's trace.proto.
"""

from collections.abc import Iterable, Set

from otel_usageflow.model.usage import UnflaggedSpan

SpanIdentity = tuple[bytes, bytes]
"""Trace id and span id."""


def drop_inner(spans: Iterable[UnflaggedSpan]) -> Set[SpanIdentity]:
    """The spans whose parent is a SERVER span of the same service among these: they are no requests.

    The order does not matter. In a chain only the outermost is a request.
    """
    spans = list(spans)
    known = {(span.trace_id, span.span_id, span.service) for span in spans}
    return {
        (span.trace_id, span.span_id)
        for span in spans
        if span.parent_span_id
        and span.parent_span_id != span.span_id
        and (span.trace_id, span.parent_span_id, span.service) in known
    }
