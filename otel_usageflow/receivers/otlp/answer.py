"""The body of a success: `ExportTraceServiceResponse`, with OTLP's partial success where something was malformed."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otel_usageflow.component import Consumed

NOTHING = Consumed()


def serialized(consumed: Consumed) -> bytes:
    """The same as protobuf. Nothing to say is nothing at all, and that is nearly always."""
    if not consumed.rejected_spans and not consumed.message:
        return b""
    return response(consumed).SerializeToString()


def response(consumed: Consumed) -> ExportTraceServiceResponse:
    """`partial_success` is left unset when everything was taken and there is nothing to say."""
    if not consumed.rejected_spans and not consumed.message:
        return ExportTraceServiceResponse()
    return ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(
            rejected_spans=consumed.rejected_spans, error_message=consumed.message
        )
    )
