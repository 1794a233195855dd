"""What an OTLP answer means for the spans that were sent (OTLP specification, "OTLP/HTTP Response")."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

RETRYABLE = frozenset({429, 502, 503, 504})


class Meaning(Enum):
    """What to do next."""

    TAKEN = "the service has them, but for those it rejected"
    AGAIN = "send them again"
    SMALLER = "send them again, in two halves"
    REFUSED = "they must not be sent again"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request."""

    meaning: Meaning
    problem: str | None = None
    rejected: int = 0
    """Spans of those sent that the service refused for good."""
    wait: float | None = None
    """Seconds that the service asks for."""


def understood(status: int, body: bytes, retry_after: str | None, now: datetime | None = None) -> Answer:
    """Read an HTTP answer."""
    if status == 200:
        return _taken(body)
    problem = f"HTTP status {status}"
    if status in RETRYABLE:
        return Answer(Meaning.AGAIN, problem, wait=_seconds(retry_after, now or datetime.now(UTC)))
    if status == 413:
        return Answer(Meaning.SMALLER, problem)
    return Answer(Meaning.REFUSED, f"{problem}: {_remedy(status)}")


def _taken(body: bytes) -> Answer:
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        # A page of a proxy, perhaps: nobody has promised anything.
        return Answer(Meaning.REFUSED, "HTTP status 200, but no OTLP answer: is the endpoint the service's?")
    return Answer(Meaning.TAKEN, partial.error_message or None, max(0, partial.rejected_spans))


def _remedy(status: int) -> str:
    if status in {401, 403}:
        return "check the headers that were given to install()"
    if status in {404, 405} or status < 400:
        return "check the endpoint that was given to install()"
    return "see the log of the service"


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """`Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - now.timestamp())
