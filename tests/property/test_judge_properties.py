"""The verdict about events in doubt, against every way in which Stripe's sum can have come about."""

from decimal import Decimal
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.judge import Candidate, Known, judge, known_of
from otel_usageflow.model.usage import Quantity

WHOLE = st.integers(-3, 12).filter(bool)
FRACTIONS = st.builds(lambda n: Decimal(n) / 8, st.integers(-20, 60).filter(bool))
VALUES = st.one_of(WHOLE, FRACTIONS, st.integers(10**13, 10**15))


def candidates_of(values: list[Quantity]) -> list[Candidate]:
    return [Candidate(number, value, 60 + number) for number, value in enumerate(values, 1)]


def as_reported(value: Quantity) -> Decimal:
    """As Stripe tells it, in JSON: a float."""
    number = float(value)
    return Decimal(repr(int(number) if number == int(number) else number))


@given(st.lists(st.one_of(WHOLE, FRACTIONS), max_size=7), st.integers(0, 127), st.lists(WHOLE, max_size=4))
def test_a_verdict_is_what_all_explanations_say(values: list[Quantity], which: int, known: list[int]) -> None:
    """What is decided is true up to equal values, and what only one explanation fits is decided."""
    candidates = candidates_of(values)
    counted = {c.event_id: bool(which >> c.event_id - 1 & 1) for c in candidates}
    total = sum(known) + sum((Decimal(c.value) for c in candidates if counted[c.event_id]), Decimal(0))
    verdict = judge(as_reported(total), Formula.SUM, Known(len(known), sum(known)), candidates)

    explanations = [
        choice
        for choice in product((False, True), repeat=len(values))
        if sum((Decimal(v) for v, yes in zip(values, choice, strict=True) if yes), Decimal(0)) + sum(known) == total
    ]
    for value in set(values):
        same = [place for place, other in enumerate(values) if other == value]
        possible = {sum(choice[place] for place in same) for choice in explanations}
        decided = [verdict[place + 1] for place in same if place + 1 in verdict]
        if len(possible) == 1:
            assert sum(decided) == possible.pop()
            assert len(decided) == len(same)
        else:
            assert decided == []


@given(st.lists(VALUES, min_size=1, max_size=6), st.data())
def test_usage_of_others_is_never_taken_for_ours(values: list[Quantity], data: st.DataObject) -> None:
    """A sum that nothing of ours explains decides nothing."""
    candidates = candidates_of(values)
    sums = {sum((Decimal(v) for v, yes in zip(values, c, strict=True) if yes), Decimal(0)) for c in _choices(values)}
    reported = data.draw(
        st.integers(-100, 10**16).map(Decimal).filter(lambda r: min(abs(r - s) for s in sums) > 10**5)
    )
    assert judge(reported, Formula.SUM, Known(), candidates) == {}


def _choices(values: list[Quantity]) -> list[tuple[bool, ...]]:
    return list(product((False, True), repeat=len(values)))


@given(st.decimals(Decimal("1e9"), Decimal("1e12"), places=4), st.booleans(), st.booleans())
def test_what_is_smaller_than_the_error_of_a_float_is_undecided(large: Decimal, big: bool, small: bool) -> None:
    """A float cannot tell whether a millionth was added to a billion; the large one is decided all the same."""
    candidates = [Candidate(1, large, 60), Candidate(2, Decimal("1e-9"), 61)]
    truth = large * big + Decimal("1e-9") * small
    verdict = judge(as_reported(truth) + Decimal("0.0001"), Formula.SUM, Known(1, Decimal("0.0001")), candidates)
    assert 1 not in verdict or verdict[1] is big
    if big:
        assert 2 not in verdict


@given(st.lists(WHOLE, max_size=8), st.integers(0, 10), st.integers(0, 20))
def test_a_count_tells_how_many_not_which(values: list[int], known: int, reported: int) -> None:
    """A meter that counts says how many of them were counted, and equal ones stand for each other."""
    candidates = candidates_of(list(values))
    verdict = judge(Decimal(reported), Formula.COUNT, Known(known, known), candidates)
    if known <= reported <= known + len(values):
        assert sum(verdict.values()) == reported - known
        assert len(verdict) == len(values)
    else:
        assert verdict == {}


@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 4), st.booleans()), max_size=6), st.integers(0, 2))
def test_a_last_value_is_right_after_the_verdict(events: list[tuple[int, int, bool]], certain: int) -> None:
    """When what was not counted is sent again, Stripe has the last value that there was."""
    known = known_of([(second, value) for second, value, _ in events[:certain]])
    candidates = [Candidate(n, value, second) for n, (second, value, _) in enumerate(events[certain:])]
    at_stripe = [(s, v) for s, v, _ in events[:certain]] + [(s, v) for s, v, yes in events[certain:] if yes]
    reported = max(at_stripe, key=lambda event: event[0], default=(0, 0))
    ties = len({second for second, _, _ in events}) != len(events)
    if ties:  # of one second Stripe keeps what it took last, which nobody here knows
        return
    verdict = judge(Decimal(reported[1]), Formula.LAST, known, candidates)
    if not verdict:
        return
    sent = [(c.timestamp, c.value) for c in candidates if not verdict[c.event_id]]
    assert max([*at_stripe, *sent])[1] == max((second, value) for second, value, _ in events)[1]


def test_different_payloads_are_not_interchangeable() -> None:
    """Of two events with one value and different keys nobody knows which was counted."""
    pair = [Candidate(1, 5, 60, '{"model":"a"}'), Candidate(2, 5, 61, '{"model":"b"}')]
    assert judge(Decimal(5), Formula.SUM, Known(), pair) == {}
    assert judge(Decimal(10), Formula.SUM, Known(), pair) == {1: True, 2: True}
    assert judge(Decimal(0), Formula.SUM, Known(), pair) == {1: False, 2: False}


def test_a_search_that_takes_too_long_decides_nothing() -> None:
    """Many candidates of different values end without a verdict, in bounded time."""
    many = [Candidate(n, 2**n + 3**n, 60) for n in range(30)] + [Candidate(100 + n, 7**n + n, 60) for n in range(15)]
    half = sum(int(candidate.value) for candidate in many[::2]) + 1
    assert judge(Decimal(half), Formula.SUM, Known(), many) == {}


def test_a_last_value_of_nothing() -> None:
    """A minute without any value looks like a value of 0: that decides nothing about an event that says 0."""
    assert judge(Decimal(0), Formula.LAST, Known(), [Candidate(1, 0, 60)]) == {}
    assert judge(Decimal(0), Formula.LAST, Known(), [Candidate(1, 4, 60)]) == {1: False}
    assert judge(Decimal(4), Formula.LAST, Known(), [Candidate(1, 4, 60)]) == {1: True}
    assert judge(Decimal(9), Formula.LAST, Known(), [Candidate(1, 4, 60)]) == {}


def test_a_later_value_makes_an_earlier_one_harmless() -> None:
    """What stands before a value that was certainly counted changes nothing any more."""
    known = known_of([(70, 9)])
    assert judge(Decimal(9), Formula.LAST, known, [Candidate(1, 4, 65)]) == {1: True}
    assert judge(Decimal(9), Formula.LAST, known, [Candidate(1, 4, 75)]) == {1: False}
    assert judge(Decimal(4), Formula.LAST, known, [Candidate(1, 4, 65)]) == {}
