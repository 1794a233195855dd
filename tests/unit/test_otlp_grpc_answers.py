"""Every refusal as gRPC sends it: grpcio-testing drives the servicer that opentelemetry-proto generates."""

import grpc
import grpc_testing
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceServicer

from otel_usageflow.errors import InvalidData, PermissionDenied, TooLarge, Unauthenticated, Unavailable
from otel_usageflow.receivers.otlp.status import refusal

SERVICE = trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"]


class Refusing(TraceServiceServicer):  # type: ignore[misc]
    """Refuses every call for one reason."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:  # noqa: N802
        """Refuse."""
        answer = refusal(self._error)
        context.set_trailing_metadata(answer.trailers())
        context.set_code(answer.code)
        context.set_details(answer.message)
        return ExportTraceServiceResponse()


def called(error: Exception) -> tuple[dict[str, bytes], grpc.StatusCode, str]:
    """Trailers, code and message that a client gets for an error."""
    server = grpc_testing.server_from_dictionary({SERVICE: Refusing(error)}, grpc_testing.strict_real_time())
    call = server.invoke_unary_unary(SERVICE.methods_by_name["Export"], (), ExportTraceServiceRequest(), timeout=None)
    _response, trailers, code, details = call.termination()
    # gRPC itself may add some, and the test server makes a point of it.
    return {name: value for name, value in trailers if not name.startswith("grpc.")}, code, details


FOR_GOOD = (
    (InvalidData("no protobuf"), grpc.StatusCode.INVALID_ARGUMENT),
    (TooLarge("too much"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unauthenticated("who?"), grpc.StatusCode.UNAUTHENTICATED),
    (PermissionDenied("not you"), grpc.StatusCode.PERMISSION_DENIED),
)


@pytest.mark.parametrize(("error", "code"), FOR_GOOD)
def test_what_is_refused_for_good_has_no_retry_info(error: Exception, code: grpc.StatusCode) -> None:
    """RetryInfo would make RESOURCE_EXHAUSTED retryable, and the client would come back for ever."""
    trailers, told, details = called(error)
    assert (told, details) == (code, str(error))
    assert trailers == {}


def test_what_can_be_sent_again_says_when_in_both_trailers() -> None:
    """Go and the Collector read the status's details, the Python SDK a trailer of its own."""
    trailers, code, _ = called(Unavailable("busy", retry_after=2.5))
    assert code is grpc.StatusCode.UNAVAILABLE
    own = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"])
    (detail,) = Status.FromString(trailers["grpc-status-details-bin"]).details
    packed = RetryInfo()
    assert detail.Unpack(packed)
    assert own.retry_delay.ToMilliseconds() == packed.retry_delay.ToMilliseconds() == 2_500


def test_an_error_of_ours_is_retryable_and_says_nothing_of_itself() -> None:
    """A bug here must not make a client drop its spans, nor show it our insides."""
    trailers, code, details = called(RuntimeError("secret detail"))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "secret" not in details
    assert trailers
