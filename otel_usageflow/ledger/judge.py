"""Which meter events were counted, told from what a meter's summary says. Pure.

The summary of one customer and UTC minute tells what Stripe has counted; the ledger knows what was certainly counted,
and which events are in doubt (the candidates). If all ways to explain the summary agree about a candidate, that is
the verdict. If they do not, or if nothing explains it, because other programs send usage for the customer as well,
there is none: nobody is guessed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal

from otel_usageflow.ledger.amount import add
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.model.usage import Quantity

_MOST_STEPS = 50_000
"""Steps of the search after which it is given up: some tens of milliseconds."""
_FLOAT_EXACT = 2**53
_FLOAT_ERROR = Decimal("1e-12")
"""How far, relatively, a sum of a few thousand floats may be off."""
_EXACT = Context(prec=400)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A meter event that was counted or not. `timestamp` is unix seconds.

    Of candidates with the same value and the same `kind` it does not matter which of them was counted.
    """

    event_id: int
    value: Quantity
    timestamp: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """The events of the minute that were certainly counted. `last` is (timestamp, value) of the latest of them."""

    count: int = 0
    total: Quantity = 0
    last: tuple[int, Quantity] | None = None


def judge(reported: Decimal, formula: Formula, known: Known, candidates: Sequence[Candidate]) -> dict[int, bool]:
    """Event id -> whether it was counted; without those about which the summary says nothing certain.

    For a meter that keeps the last value, `True` can also mean that it would change nothing any more.
    """
    match formula:
        case Formula.SUM:
            weights = [candidate.value for candidate in candidates]
            return _by_sum(reported, known.total, weights, candidates)
        case Formula.COUNT:
            return _by_sum(reported, known.count, [1] * len(candidates), candidates)
        case Formula.LAST:
            return _by_last(reported, known.last, candidates)


def slack(reported: Decimal, amounts: Sequence[Quantity]) -> Decimal:
    """How far a summary, which is a float, may be off: not at all for whole numbers that a float can hold."""
    size = sum((abs(Decimal(amount)) for amount in amounts), abs(reported))
    whole = all(amount == int(amount) for amount in (reported, *amounts))
    return Decimal(0) if whole and size < _FLOAT_EXACT else size * _FLOAT_ERROR


def _by_sum(
    reported: Decimal, known: Quantity, weights: Sequence[Quantity], candidates: Sequence[Candidate]
) -> dict[int, bool]:
    allowed = slack(reported, [known, *weights])
    groups: dict[Quantity, list[Candidate]] = {}
    for weight, candidate in zip(weights, candidates, strict=True):
        groups.setdefault(weight, []).append(candidate)
    missing = _EXACT.subtract(reported, Decimal(known))
    scale = 10 ** max(_decimals(amount) for amount in (missing, allowed, *groups))
    pieces = [(_scaled(weight, scale), len(group)) for weight, group in groups.items()]
    seen: list[set[int]] = [set() for _ in pieces]
    try:
        for counts in _explanations(_scaled(missing, scale), _scaled(allowed, scale), pieces):
            for number, count in zip(seen, counts, strict=True):
                number.add(count)
            if all(len(number) > 1 for number in seen):
                return {}
    except _TooLong:
        return {}
    verdict: dict[int, bool] = {}
    for counted, group in zip(seen, groups.values(), strict=True):
        if len(counted) == 1:
            verdict.update(_within_group(counted.pop(), group))
    return verdict


def _within_group(counted: int, group: Sequence[Candidate]) -> dict[int, bool]:
    """The verdict about candidates of one value, when so many of them were counted."""
    if 0 < counted < len(group) and len({candidate.kind for candidate in group}) > 1:
        return {}
    order = sorted(group, key=lambda candidate: candidate.event_id)
    return {candidate.event_id: place < counted for place, candidate in enumerate(order)}


class _TooLong(Exception):
    """The search would take too long."""


def _explanations(target: int, allowed: int, pieces: Sequence[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """All ways to take some of each piece (value, how many there are) so that they add up to about `target`.

    Raises:
        _TooLong: there may be more.
    """
    order = sorted(range(len(pieces)), key=lambda place: -abs(pieces[place][0]))
    most = [0] * (len(order) + 1)
    least = [0] * (len(order) + 1)
    for depth in range(len(order) - 1, -1, -1):
        value, number = pieces[order[depth]]
        most[depth] = most[depth + 1] + max(value * number, 0)
        least[depth] = least[depth + 1] + min(value * number, 0)
    taken = [0] * len(pieces)
    steps = 0

    def search(depth: int, left: int) -> Iterator[tuple[int, ...]]:
        nonlocal steps
        steps += 1
        if steps > _MOST_STEPS:
            raise _TooLong
        if not least[depth] - allowed <= left <= most[depth] + allowed:
            return
        if depth == len(order):
            yield tuple(taken)
            return
        value, number = pieces[order[depth]]
        for count in range(number + 1):
            taken[order[depth]] = count
            yield from search(depth + 1, left - count * value)

    yield from search(0, target)


def _by_last(
    reported: Decimal, known: tuple[int, Quantity] | None, candidates: Sequence[Candidate]
) -> dict[int, bool]:
    """From the latest candidate backwards: what stands behind a value that was counted changes nothing."""

    def says(value: Quantity) -> bool:
        return abs(reported - Decimal(value)) <= slack(reported, [value])

    order = sorted(candidates, key=lambda candidate: (candidate.timestamp, candidate.event_id), reverse=True)
    later = [candidate for candidate in order if known is None or candidate.timestamp > known[0]]
    if known is None and reported == 0:  # looks like nothing at all, unless a candidate says 0 itself
        return {} if any(says(candidate.value) for candidate in order) else dict.fromkeys(_ids(order), False)
    if not any(says(candidate.value) for candidate in later) and not (known is not None and says(known[1])):
        return {}
    counted = next((place for place, candidate in enumerate(later) if says(candidate.value)), len(later))
    return {candidate.event_id: place >= counted for place, candidate in enumerate(order)}


def _ids(candidates: Sequence[Candidate]) -> list[int]:
    return [candidate.event_id for candidate in candidates]


def _decimals(value: Quantity) -> int:
    exponent = Decimal(value).as_tuple().exponent
    assert isinstance(exponent, int)  # an amount is finite
    return max(-exponent, 0)


def _scaled(value: Quantity, scale: int) -> int:
    return int(_EXACT.multiply(Decimal(value), Decimal(scale)))


def known_of(events: Sequence[tuple[int, Quantity]]) -> Known:
    """What the (timestamp, value) of all events that were counted make, in the order in which Stripe took them."""
    total: Quantity = 0
    last: tuple[int, Quantity] | None = None
    for timestamp, value in events:
        total = add(total, value)
        if last is None or timestamp >= last[0]:
            last = (timestamp, value)
    return Known(len(events), total, last)
