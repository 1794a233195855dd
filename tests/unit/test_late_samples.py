"""Which attempt an error report is about, and at what pace summaries are read."""

import pytest

from otel_usageflow.exporters.stripe_meter.summaries import ReadPace
from otel_usageflow.extensions.sqlite_storage.doubt.reports import is_about
from otel_usageflow.ledger.states import EventState


@pytest.mark.parametrize(
    ("state", "current", "key", "last_key", "duplicate", "about"),
    [
        (EventState.ACCEPTED, "a", "a", "a", False, True),
        (EventState.UNKNOWN, "a", "a", "a", False, True),
        (EventState.ACCEPTED, "a", "a_k4", "a_k4", True, True),
        (EventState.ACCEPTED, "a_r1", "a", "a_r1", False, False),  # sent again since, under another identifier
        (EventState.ACCEPTED, "a", "a", "a_k2", False, False),  # the later attempt was taken anew
        (EventState.ACCEPTED, "a", "a", "a_k2", True, True),  # the rejected one is the only one that can exist
        (EventState.ACCEPTED, "a", "a", "a_k4", True, None),  # the one of a key in between may exist, and count
        (EventState.ACCEPTED, "a", "a_k2", "a_k4", True, None),
        (EventState.UNKNOWN, "a", "a", "a_k2", False, False),  # summaries tell
        (EventState.REFUSED, "a", "a", "a", False, False),
        (EventState.CANCELLED, "a", "a", "a", False, False),
    ],
)
def test_what_an_error_of_an_attempt_says_about_the_event(
    state: EventState, current: str, key: str, last_key: str, duplicate: bool, about: bool | None
) -> None:
    """Only what is certain counts as not counted; what is not goes to the summaries."""
    assert is_about(state, "a", current, key, last_key, duplicate=duplicate) is about


async def test_reads_have_a_pace() -> None:
    """A few a second, and an hour's worth at once at the most; then as they come back."""
    now = [0.0]
    pace = ReadPace(per_second=2, per_hour=10, clock=lambda: now[0])
    for _ in range(9):
        assert pace.missing() == 0
        await pace.take()
        assert pace.missing() == pytest.approx(0.5)
        now[0] += 0.5
    await pace.take()
    assert 300 < pace.missing() < 360
    now[0] += 3_600 / 10
    await pace.take()
    assert pace.missing() > 0.5
    now[0] += 24 * 3_600
    for _ in range(10):
        await pace.take()
        now[0] += 0.5
    assert pace.missing() > 300, "what was not used in a day is not saved up"
