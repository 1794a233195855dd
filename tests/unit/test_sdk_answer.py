"""What the SDK makes of OTLP answers, and when it asks again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_usageflow.sdk.answer import Meaning, understood
from otel_usageflow.sdk.sender import Limits, pause

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (200, Meaning.TAKEN),
        *((status, Meaning.AGAIN) for status in (429, 502, 503, 504)),
        (413, Meaning.SMALLER),
        *((status, Meaning.REFUSED) for status in (202, 204, 301, 302, 400, 401, 403, 404, 405, 500, 501)),
    ],
)
def test_a_status_means_what_otlp_says(status: int, meaning: Meaning) -> None:
    """Only 429, 502, 503 and 504 are retried, and only 200 is a success: a redirect to a login page is none."""
    assert understood(status, b"", None).meaning is meaning


def test_partial_success_is_read() -> None:
    """Rejected spans are counted as such, with the reason."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 3
    answer.partial_success.error_message = "too old"
    read = understood(200, answer.SerializeToString(), None)
    assert (read.meaning, read.rejected, read.problem) == (Meaning.TAKEN, 3, "too old")


def test_a_page_is_no_answer() -> None:
    """Status 200 with something else than an OTLP answer has promised nothing."""
    assert understood(200, b"<html>hello</html>", None).meaning is Meaning.REFUSED


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0),
        ("soon", None),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read(header: str | None, seconds: float | None) -> None:
    """`Retry-After` is seconds or a date."""
    assert understood(503, b"", header, NOW).wait == seconds


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e9), st.floats(0, 1))
def test_a_pause_is_bounded(attempt: int, asked: float | None, chance: float) -> None:
    """No pause is longer than the longest, none shorter than half of the first; between, the service decides."""
    limits = Limits()
    seconds = pause(attempt, asked, limits, chance)
    assert limits.first_wait / 2 <= seconds <= limits.longest_wait
    assert seconds >= min(asked or 0.0, limits.longest_wait)


@pytest.mark.parametrize("wrong", [{"queue": 0}, {"batch": -1}, {"delay": 0.0}])
def test_limits_are_checked_at_the_start(wrong: dict[str, int]) -> None:
    """A limit that cannot be is refused by name."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)
