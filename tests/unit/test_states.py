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


def test_nothing_is_sent_again_that_may_be_counted() -> None:
    """Of the events with an answer only those go back that were certainly not counted."""
    again = {before for (before, _), after in EVENT_STEPS.items() if after in UNSETTLED} - set(UNSETTLED)
    assert again == {EventState.REFUSED, EventState.UNKNOWN}
    assert {what for (before, what) in EVENT_STEPS if before is EventState.UNKNOWN} == {
        EventStep.COUNT,  # by what summaries or people say
        EventStep.RESEND,
        EventStep.REJECT,  # by what a late report says, or when it is too late to send it again
    }
    assert not any(before is EventState.ACCEPTED and after in UNSETTLED for (before, _), after in EVENT_STEPS.items())


def test_what_people_decided_is_final() -> None:
    """Returned, discarded and cancelled events take no further step."""
    final = {EventState.RETURNED, EventState.DISCARDED, EventState.CANCELLED}
    assert not final & {before for before, _ in EVENT_STEPS}


def test_nothing_is_answered_before_it_was_begun() -> None:
    """An attempt is on the disk before it is made: a frozen event can only begin."""
    assert {what for state, what in EVENT_STEPS if state is EventState.FROZEN} == {EventStep.BEGIN}
