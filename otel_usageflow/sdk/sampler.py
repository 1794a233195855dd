"""A sampler that records every request for billing, and leaves the sampling as it is."""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes


def enters(parent: SpanContext | None) -> bool:
    """Whether a span with this parent enters the process: it has none, or a remote one."""
    return parent is None or not parent.is_valid or parent.is_remote


class BillingSampler(Sampler):
    """Where the wrapped sampler drops a SERVER span that enters the process, record it, unsampled.

    Span processors then see it, but exporters' processors pass it over, its children are sampled as before, and what
    is propagated downstream still says "not sampled" (OpenTelemetry specification, trace/sdk.md, "RECORD_ONLY").
    """

    def __init__(self, wrapped: Sampler) -> None:
        self.wrapped = wrapped

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Ask the wrapped sampler."""
        result = self.wrapped.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if (
            result.decision is Decision.DROP
            and kind is SpanKind.SERVER
            and enters(get_current_span(parent_context).get_span_context())
        ):
            # A sampler that drops gives no attributes, and the span has only those of the result.
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        """Name this sampler and the wrapped one."""
        return f"BillingSampler{{{self.wrapped.get_description()}}}"
