"""Samplers that write nothing betray themselves by the trace ids that they let through.

A ratio sampler keeps a trace if some part of its id, read as a number, is below the ratio. Over all requests that
number is uniform in [0, 1); over those that such a sampler kept, it never reaches the ratio. So the largest of n
distinct trace ids says: had all requests arrived, it would stay below M with the probability M^n.

That has to be at most 10^-20 for one of the nine rules below, at some point within at most 1,024 trace ids. Random
ids meet that with a probability below 9 * 1024 * 10^-20, which is less than 10^-16. A ratio sampler of 90 % is found
after 438 traces, one of 50 % after 67, one of 10 % after 21; see `needed`.

What is not random is not judged: each of 12 bits of the numbers must have been both 0 and 1, which random ones fail
with a probability below 24 * 2^-n.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MOST: Final = 1024
"""Distinct trace ids that are looked at together. More tell nothing more."""
CHANCE: Final = 1e-20
"""How improbable the trace ids must be, had all requests arrived."""
LARGEST_SHARE: Final = 0.95
"""Above it nothing is said, so that what is said is about at most `needed(LARGEST_SHARE)` = 898 trace ids."""
SMALLEST_SHARE: Final = 1e-6
"""Below it ids are taken to be numbered, not sampled."""

CONSISTENT: Final = "a consistent sampler, or PHP's,"
"""The rule that is told by thresholds in the trace state, too."""

_WATCHED: Final = 12
"""Bits below the largest number that must have been both 0 and 1."""
_LOW: Final = (1 << 64) - 1


class Kept(NamedTuple):
    """What a set of trace ids says."""

    rule: str
    """The samplers that keep such trace ids."""
    share: float
    """About how much of all requests arrives, from 0 to 1."""
    traces: int
    """The distinct trace ids that were looked at."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """How some samplers read a trace id."""

    samplers: str
    width: int
    """Bits of the number."""
    number: Callable[[int], int]
    """Of 128 bits."""
    apart: int = 0
    """Bits of the trace id that the rule passes over, and that are not random in ids made of UUIDs."""


def _magnitude(number: int) -> int:
    """Of 64 bits in two's complement; 2^63 itself is -2^63 to Java, and kept by every ratio."""
    return min(number, (1 << 64) - number) % (1 << 63)


def _words(trace_id: int) -> int:
    half = (trace_id >> 64) ^ (trace_id & _LOW)
    return (half >> 32) ^ (half & 0xFFFFFFFF)


def _little_endian(trace_id: int) -> int:
    return int.from_bytes((trace_id >> 64).to_bytes(8, "big"), "little")


# Each from the sampler's source; tests/unit/test_trace_ids.py has them once more, as samplers.
_RULES: Final = (
    _Rule("TraceIdRatioBased of Python, Go, Ruby or Rust", 64, lambda id_: id_ & _LOW),
    _Rule("TraceIdRatioBased of Java", 63, lambda id_: _magnitude(id_ & _LOW)),
    _Rule("TraceIdRatioBased of JavaScript", 32, _words),
    _Rule("TraceIdRatioBased of .NET", 63, lambda id_: _magnitude(id_ >> 64)),
    _Rule(CONSISTENT, 56, lambda id_: ~id_ & ((1 << 56) - 1)),
    _Rule("TraceIdRatioBased of C++", 64, _little_endian),
    _Rule("TraceIDRatioBased of an old Go SDK", 64, lambda id_: id_ >> 64),
    _Rule("TraceIdRatioBased of Erlang, or Jaeger's", 63, lambda id_: id_ & (_LOW >> 1), apart=1 << 63),
    _Rule("TraceIdRatioBased of an old PHP SDK", 60, lambda id_: id_ & ((1 << 60) - 1), apart=0xF << 60),
)


def needed(share: float) -> int:
    """How many distinct trace ids show a ratio sampler that keeps this share."""
    return math.ceil(math.log(CHANCE) / math.log(share))


def kept_by(trace_ids: Collection[bytes]) -> Kept | None:
    """The sampler that kept these trace ids, if one did.

    Args:
        trace_ids: distinct ones of one service, of 16 bytes; at most `MOST`, or the probabilities above do not hold.
    """
    count = len(trace_ids)
    if count < needed(SMALLEST_SHARE):
        return None
    ids = [int.from_bytes(trace_id, "big") for trace_id in trace_ids]
    varying = _varying(ids)
    best: Kept | None = None
    for rule in _RULES:
        if varying & rule.apart != rule.apart:
            continue
        numbers = list(map(rule.number, ids))
        largest = max(numbers)
        share = (largest + 1) / (1 << rule.width)
        if not SMALLEST_SHARE <= share <= LARGEST_SHARE or count * math.log(share) > math.log(CHANCE):
            continue
        window = ((1 << _WATCHED) - 1) << (largest.bit_length() - _WATCHED)
        if _varying(numbers) & window == window and (best is None or share < best.share):
            best = Kept(rule.samplers, share, count)
    return best


def _varying(numbers: Sequence[int]) -> int:
    """The bits that are 0 in some and 1 in others."""
    every, some = numbers[0], 0
    for number in numbers:
        every &= number
        some |= number
    return some & ~every
