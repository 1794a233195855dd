"""The table of states: total, and nothing in it that cannot happen."""

import pytest

from otel_usageflow.ledger.states import EVENT_STEPS, UNSETTLED, EventState, EventStep, IllegalStep, step


@pytest.mark.parametrize("state", EventState)
@pytest.mark.parametrize("what", EventStep)
def test_every_pair_has_an_answer(state: EventState, what: EventStep) -> None:
    """A step is in the table, or it is a bug that says what was tried."""
    if (state, what) in EVENT_STEPS:
        assert step(state, what) is EVENT_STEPS[state, what]
    else:
        with pytest.raises(IllegalStep, match=f"{state.name} cannot {what.name}"):
            step(state, what)


def test_every_state_and_arrow_is_reached_from_frozen() -> None:
    """From where events begin, every state can be reached, and with it every arrow."""
    reached = {EventState.FROZEN}
    while more := {after for (before, _), after in EVENT_STEPS.items() if before in reached} - reached:
        reached |= more
    assert reached == set(EventState)
    assert {what for _, what in EVENT_STEPS} == set(EventStep)


def test_what_is_settled_stays_settled() -> None:
    """Only unsettled events take steps, so an answer is never overwritten."""
    assert {before for before, _ in EVENT_STEPS} == set(UNSETTLED)


def test_nothing_is_answered_before_it_was_begun() -> None:
    """An attempt is on the disk before it is made: a frozen event can only begin."""
    assert {what for state, what in EVENT_STEPS if state is EventState.FROZEN} == {EventStep.BEGIN}
