"""Reconciling blames nobody for what the ledger can explain, and misses nothing that it cannot."""

from decimal import Decimal

from hypothesis import assume, given
from hypothesis import strategies as st

from otel_usageflow.ledger import amount
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.reconcile import Cause, EventFact, Facts, Pair, Role, judge, tally
from otel_usageflow.model.usage import Quantity

NOON = 1_700_000_000 - 1_700_000_000 % 3600
PAIR = Pair("", "api_request", "cus_1")
VALUES = st.one_of(
    st.integers(1, 10**12),
    st.integers(-(10**6), -1),
    st.decimals(Decimal("0.000001"), 10**6, places=6).map(amount.normal),
)
CERTAIN = st.sampled_from([Role.COUNTED, Role.ABSENT, Role.CANCELLED])
DOUBTFUL = st.sampled_from([Role.MAYBE, Role.UNKNOWN, Role.CANCELLING])
ADDITIVE = st.sampled_from([Formula.SUM, Formula.COUNT])


@st.composite
def events(draw: st.DrawFn, roles: st.SearchStrategy[Role], min_size: int = 0) -> list[EventFact]:
    """Events of one hour."""
    made = draw(st.lists(st.tuples(VALUES, st.integers(0, 3599), roles), min_size=min_size, max_size=12))
    return [
        EventFact(f"uf_s{n:x}", value, NOON + offset, role, NOON + offset + 60.0)
        for n, (value, offset, role) in enumerate(made)
    ]


def stripes(formula: Formula, counted: list[EventFact]) -> Quantity:
    """What Stripe says when it has counted these: a float, as it sums them."""
    if formula is Formula.COUNT:
        return len(counted)
    if formula is Formula.LAST:
        return max(((e.timestamp, e.changed_at, n), e.value) for n, e in enumerate(counted))[1] if counted else 0
    exact = sum((Decimal(event.value) for event in counted), Decimal(0))
    return amount.normal(exact) if exact == int(exact) else amount.normal(Decimal(repr(float(exact))))


def counted_for_certain(found: list[EventFact]) -> list[EventFact]:
    return [event for event in found if event.role is Role.COUNTED]


@given(events(CERTAIN), st.sampled_from(list(Formula)))
def test_what_was_counted_as_the_ledger_says_is_no_difference(found: list[EventFact], formula: Formula) -> None:
    """Whatever was cancelled, refused or not sent: if Stripe counted the accepted, nothing differs."""
    stripe = stripes(formula, counted_for_certain(found))
    assert judge(PAIR, formula, NOON, NOON + 3600, Facts(found), stripe) is None


@given(events(CERTAIN), events(DOUBTFUL, min_size=1), st.data(), ADDITIVE)
def test_a_doubt_is_never_called_lost_or_foreign(
    certain: list[EventFact], doubtful: list[EventFact], data: st.DataObject, formula: Formula
) -> None:
    """However the events in doubt turned out, the difference is told as that doubt, and never mended."""
    turned_out = [event for event in doubtful if data.draw(st.booleans())]
    stripe = stripes(formula, [*counted_for_certain(certain), *turned_out])
    found = judge(PAIR, formula, NOON, NOON + 3600, Facts([*certain, *doubtful]), stripe)
    if found is not None:
        assert found.cause in (Cause.UNKNOWN_OUTCOME, Cause.UNDER_WAY, Cause.CANCELLATION)
        assert not found.correctable


def test_what_a_float_loses_of_a_doubt_is_nobody_elses() -> None:
    """Where all that Stripe may have counted is in doubt, its float of it is not taken for foreign usage."""
    doubtful = [
        EventFact(f"uf_s{n}", value, NOON, Role.MAYBE, NOON + 60.0)
        for n, value in enumerate((274877906944, Decimal("0.000153")))
    ]
    found = judge(PAIR, Formula.SUM, NOON, NOON + 3600, Facts(doubtful), stripes(Formula.SUM, doubtful))
    assert found is not None
    assert (found.cause, found.correctable) == (Cause.UNDER_WAY, False)


@given(events(CERTAIN, min_size=1), ADDITIVE, st.data())
def test_what_stripe_lost_is_found_and_named(found: list[EventFact], formula: Formula, data: st.DataObject) -> None:
    """An accepted event that is not in the sum: the difference is its weight, and it is among those named."""
    # A float cannot tell a millionth of 10**12.
    counted = [event for event in counted_for_certain(found) if event.value > Decimal("0.05")]
    assume(counted)
    gone = data.draw(st.sampled_from(counted))
    stripe = stripes(formula, [event for event in counted_for_certain(found) if event is not gone])
    difference = judge(PAIR, formula, NOON, NOON + 3600, Facts(found), stripe)
    assert difference is not None
    assert difference.cause is Cause.LOST
    weight = Decimal(1 if formula is Formula.COUNT else gone.value)
    assert abs(Decimal(difference.difference) + weight) <= Decimal("0.01")
    if len(counted_for_certain(found)) <= 5:
        assert gone.identifier in difference.events
    assert difference.correctable == (formula is Formula.SUM)
    assert difference.start <= difference.timestamp < difference.end


@given(events(st.sampled_from([Role.COUNTED, Role.ABSENT])), st.integers(1, 10**9), ADDITIVE)
def test_what_others_sent_is_found(found: list[EventFact], foreign: int, formula: Formula) -> None:
    """More in Stripe than any event explains is foreign, and can be taken off a sum."""
    counted = counted_for_certain(found)
    other = EventFact("theirs", foreign, NOON, Role.COUNTED, 0.0)
    difference = judge(PAIR, formula, NOON, NOON + 3600, Facts(found), stripes(formula, [*counted, other]))
    assert difference is not None
    assert difference.cause is Cause.FOREIGN
    assert difference.correctable == (formula is Formula.SUM)


@given(events(CERTAIN), VALUES)
def test_a_correction_makes_the_two_equal(found: list[EventFact], drift: Quantity) -> None:
    """What is sent to mend a difference, counted by Stripe and marked as such here, leaves none."""
    counted = counted_for_certain(found)
    other = EventFact("theirs", drift, NOON, Role.COUNTED, 0.0)
    difference = judge(PAIR, Formula.SUM, NOON, NOON + 3600, Facts(found), stripes(Formula.SUM, [*counted, other]))
    assume(difference is not None)  # a float cannot tell a millionth of 10**12
    assert difference is not None
    sent = amount.add(0, -difference.difference)
    mended = EventFact("ours", sent, NOON, Role.MENDING, 0.0)
    stripe = stripes(Formula.SUM, [*counted, other, mended])
    again = judge(PAIR, Formula.SUM, NOON, NOON + 3600, Facts([*found, mended]), stripe)
    assert again is None or abs(Decimal(again.difference)) <= Decimal("0.001")


@given(events(CERTAIN))
def test_a_tally_is_exact(found: list[EventFact]) -> None:
    """The tally adds decimals exactly, and only what counts."""
    made = tally(found)
    assert made.total == sum((Decimal(event.value) for event in counted_for_certain(found)), Decimal(0))
    assert made.events == len(counted_for_certain(found))


def test_open_refusals_and_corrections_forbid_a_repair() -> None:
    """Stripe has less, but it has reported refusals that nobody has joined yet, or a correction is on its way."""
    event = EventFact("uf_s1", 5, NOON, Role.COUNTED, NOON + 1.0)
    late = judge(PAIR, Formula.SUM, NOON, NOON + 60, Facts([event], late_refusals=1), 0)
    asked = judge(PAIR, Formula.SUM, NOON, NOON + 60, Facts([event], open_corrections=1), 0)
    assert late is not None
    assert (late.cause, late.correctable) == (Cause.LATE_REFUSAL, False)
    assert asked is not None
    assert (asked.cause, asked.correctable) == (Cause.CORRECTION, False)


def test_a_cancelled_event_that_still_counts() -> None:
    """Stripe has more by just what was cancelled, or by what it had refused."""
    kept = EventFact("uf_s1", 5, NOON, Role.COUNTED, NOON + 1.0)
    gone = EventFact("uf_s2", 3, NOON, Role.CANCELLED, NOON + 1.0)
    refused = EventFact("uf_s3", 4, NOON, Role.ABSENT, NOON + 1.0, refused=True)
    facts = Facts([kept, gone, refused])
    cancelled = judge(PAIR, Formula.SUM, NOON, NOON + 60, facts, 8)
    after_all = judge(PAIR, Formula.SUM, NOON, NOON + 60, facts, 9)
    assert cancelled is not None
    assert (cancelled.cause, cancelled.events) == (Cause.CANCELLATION, ("uf_s2",))
    assert after_all is not None
    assert (after_all.cause, after_all.events) == (Cause.COUNTED_AFTER_ALL, ("uf_s3",))


def test_the_last_value_is_compared_by_time() -> None:
    """A meter that keeps the last value is compared with the latest event, whatever the order of sending."""
    early = EventFact("uf_s2", 9, NOON, Role.COUNTED, NOON + 9.0)
    late = EventFact("uf_s1", 4, NOON + 30, Role.COUNTED, NOON + 2.0)
    assert judge(PAIR, Formula.LAST, NOON, NOON + 60, Facts([early, late]), 4) is None
    found = judge(PAIR, Formula.LAST, NOON, NOON + 60, Facts([early, late]), 9)
    assert found is not None
    assert not found.correctable
