"""What becomes of a correction, decided from what is written down."""

from dataclasses import replace
from decimal import Decimal

import pytest

from otel_usageflow.ledger.correction import (
    AskSummary,
    Become,
    Cancel,
    Corrected,
    Correction,
    CorrectionState,
    IllegalCorrectionStep,
    Tell,
    Wait,
    check_step,
    decide,
    effective,
    was_cancelled,
)
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.reconcile import EventFact, Facts, Pair, Role
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.usage import Reason

NOW = 1_700_000_000.0
HOUR = 3_600.0
EVENT = Corrected(7, "uf_s7", EventState.ACCEPTED, 5, NOW - HOUR, others=False)
WHOLE = Correction(
    number=1,
    pair=Pair("", "api_request", "cus_1"),
    quantity=-5,
    timestamp=int(NOW - HOUR),
    whole=True,
    origin="asked",
    why="test",
    actor="me",
    asked_at=NOW,
    state=CorrectionState.ASKED,
    corrected=EVENT,
    corrects=7,
)


@pytest.mark.parametrize("meter", [*Formula, Reason.NO_METER, None])
def test_a_whole_event_is_cancelled_within_a_day(meter: Formula | Reason | None) -> None:
    """However the meter adds up, Stripe's cancel takes a whole event off."""
    assert decide(WHOLE, meter, NOW) == Cancel("uf_s7")


def test_what_is_not_whole_or_not_alone_is_told() -> None:
    """A part, or an event that has other corrections, is never cancelled."""
    part = replace(WHOLE, whole=False, quantity=-3)
    assert decide(part, Formula.SUM, NOW) == Tell(-3)
    others = replace(WHOLE, corrected=replace(EVENT, others=True), quantity=-2)
    assert decide(others, Formula.SUM, NOW) == Tell(-2)


def test_after_a_day_it_is_told() -> None:
    """Stripe cancels what it received within 24 hours; a quarter of an hour before, it is not asked any more."""
    nearly = replace(WHOLE, corrected=replace(EVENT, first_attempt_at=NOW - 23.7 * HOUR))
    late = replace(WHOLE, corrected=replace(EVENT, first_attempt_at=NOW - 23.8 * HOUR))
    assert decide(nearly, Formula.SUM, NOW) == Cancel("uf_s7")
    assert decide(late, Formula.SUM, NOW) == Tell(-5)
    assert decide(late, None, NOW) == Wait("the meter is not known yet")
    assert isinstance(decide(late, Reason.NO_METER, NOW), Wait)


@pytest.mark.parametrize("meter", [Formula.COUNT, Formula.LAST])
def test_a_meter_that_does_not_sum_is_corrected_by_hand(meter: Formula) -> None:
    """The note names quantity, meter, moment and customer."""
    found = decide(replace(WHOLE, corrected=replace(EVENT, first_attempt_at=NOW - 48 * HOUR)), meter, NOW)
    assert isinstance(found, Become)
    assert found.state is CorrectionState.BY_HAND
    assert found.message.startswith("credit 5 api_request of 2023-11-14T21:13:20Z to customer cus_1 by hand")
    assert meter in found.message


def test_what_is_too_old_is_corrected_by_hand() -> None:
    """Stripe takes no event of more than 35 days ago; a positive correction is then a charge by hand."""
    old = replace(WHOLE, corrected=None, corrects=None, whole=False, quantity=Decimal("1.5"))
    old = replace(old, timestamp=int(NOW - 35 * 24 * HOUR))
    found = decide(old, Formula.SUM, NOW)
    assert isinstance(found, Become)
    assert found.message.startswith("charge 1.5 api_request of")


@pytest.mark.parametrize("state", list(CorrectionState)[:3])
@pytest.mark.parametrize("event", [state for state in EventState if state is not EventState.ACCEPTED])
def test_an_event_that_is_not_billed(state: CorrectionState, event: EventState) -> None:
    """Nothing is taken off for what is not billed, and what is not clear is waited for."""
    found = decide(replace(WHOLE, state=state, corrected=replace(EVENT, state=event)), Formula.SUM, NOW)
    if event in (EventState.FROZEN, EventState.SENDING, EventState.UNKNOWN):
        assert isinstance(found, Wait)
    else:
        assert isinstance(found, Become)
        assert found.state is CorrectionState.VOID


def test_a_cancellation_without_answer() -> None:
    """It is asked for again while it can work, then only the summary can tell, and in the end a person must."""
    begun = replace(WHOLE, state=CorrectionState.CANCELLING, first_attempt_at=NOW, last_attempt_at=NOW)
    assert decide(begun, Formula.SUM, NOW + 60) == Cancel("uf_s7")
    late = decide(begun, Formula.SUM, NOW + 24 * HOUR)
    assert isinstance(late, Become)
    assert late.state is CorrectionState.UNCLEAR
    unclear = replace(begun, state=CorrectionState.UNCLEAR)
    assert decide(unclear, Formula.SUM, NOW + 24 * HOUR) == AskSummary()
    assert decide(unclear, Formula.SUM, NOW + 24 * HOUR, not_cancelled="the summary says so") == Tell(-5)
    end = decide(unclear, Formula.SUM, NOW + 49 * HOUR)
    assert isinstance(end, Become)
    assert end.state is CorrectionState.BY_HAND


def test_no_event_is_made_while_a_cancellation_may_have_got_through() -> None:
    """From `cancelling` no way leads to a further meter event but over `unclear`, and none back from one."""
    with pytest.raises(IllegalCorrectionStep):
        check_step(CorrectionState.CANCELLING, CorrectionState.SENDING)
    for state in (CorrectionState.SENDING, CorrectionState.BILLED):
        with pytest.raises(IllegalCorrectionStep):
            check_step(state, CorrectionState.CANCELLING)


def test_what_was_told_follows_its_event() -> None:
    """Billed when Stripe has it, by hand when Stripe refuses it, also late."""
    told = replace(WHOLE, state=CorrectionState.SENDING, event_id=9, event_identifier="uf_s9")
    accepted = decide(replace(told, event_state=EventState.ACCEPTED), Formula.SUM, NOW)
    assert isinstance(accepted, Become)
    assert accepted.state is CorrectionState.BILLED
    billed = replace(told, state=CorrectionState.BILLED, event_state=EventState.REFUSED, event_message="no")
    refused = decide(billed, Formula.SUM, NOW)
    assert isinstance(refused, Become)
    assert refused.state is CorrectionState.BY_HAND
    assert isinstance(decide(replace(told, event_state=EventState.SENDING), Formula.SUM, NOW), Wait)


@pytest.mark.parametrize(("reported", "verdict"), [(2, True), (7, False), (99, None)])
def test_the_summary_shows_whether_it_was_cancelled(reported: int, verdict: bool | None) -> None:
    """Of the two sums that are possible, the one that Stripe says; any other says nothing."""
    stamp = int(NOW)
    facts = Facts(
        [
            EventFact("uf_s7", 5, stamp, Role.CANCELLING, NOW),
            EventFact("uf_s8", 2, stamp, Role.COUNTED, NOW),
        ]
    )
    unclear = replace(WHOLE, state=CorrectionState.UNCLEAR)
    assert was_cancelled(unclear, Formula.SUM, facts, Decimal(reported)) is verdict


def test_what_is_left_of_an_event() -> None:
    """Corrections add up, those of corrections included; void ones and those that mend Stripe's sum do not."""
    part = replace(WHOLE, number=1, whole=False, quantity=-3, event_id=9, state=CorrectionState.BILLED)
    undone = replace(WHOLE, number=2, whole=True, quantity=3, corrects=9, state=CorrectionState.ASKED)
    void = replace(WHOLE, number=3, state=CorrectionState.VOID)
    mend = replace(WHOLE, number=4, origin="reconcile", quantity=5)
    assert effective(7, 5, [part]) == 2
    assert effective(7, 5, [part, void, mend]) == 2
    assert effective(7, 5, [part, undone]) == 5
