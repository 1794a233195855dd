"""For how many requests one span stands, as its trace state says.

The member `ot` of W3C's tracestate carries `th`, the rejection threshold T that the span's randomness R was held
against: it was kept because R >= T, which happens with the probability (2^56 - T) / 2^56. The older `p:N` says that
the span was kept with the probability 2^-N. Sources: OpenTelemetry specification, trace/tracestate-handling.md and
trace/tracestate-probability-sampling.md; for `p`, the same of version 1.20.

Any caller can write a trace state, so nothing in it is believed further than it can be checked.
"""

from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

FULL: Final = 1 << 56
"""The number of thresholds, and of values that randomness has."""
LONGEST: Final = 8192
"""Bytes of a trace state that are looked at; W3C asks everybody to pass on 512 characters."""

_HEX: Final = frozenset(b"0123456789abcdef")
_HEX_ANY: Final = _HEX | frozenset(b"ABCDEF")
_DIGITS: Final = 14


class Doubt(StrEnum):
    """Why a trace state that speaks of sampling gives no weight."""

    MALFORMED = "malformed"
    """What stands there is no threshold, or there are several different ones."""
    INCONSISTENT = "inconsistent"
    """A span with this threshold would not have been kept: somebody else's threshold was passed on, or made up."""
    NO_COUNT = "no_count"
    """`p:63`: kept for another reason than chance, so it stands for no number of requests."""


def weight(state: bytes, trace_id: bytes) -> Fraction | Doubt | None:
    """How many requests a span stands for (its adjusted count), at least 1.

    Args:
        state: the span's tracestate, as it was on the wire.
        trace_id: 16 bytes; the low 56 bits are its randomness unless the trace state has some.

    Returns:
        None where it says nothing of sampling, as after most samplers, `Doubt` where what it says cannot be used.
    """
    if b"ot" not in state:
        return None
    said = _read(state[:LONGEST])
    if not isinstance(said, _Kept):
        return said
    randomness = int.from_bytes(trace_id[-7:], "big") if said.randomness is None else said.randomness
    return said.weight if randomness >= said.threshold else Doubt.INCONSISTENT


class _Kept(NamedTuple):
    """What a sampler has written."""

    threshold: int
    """0 where it wrote no threshold, so that it cannot contradict the randomness."""
    randomness: int | None
    """None for the trace id's."""
    weight: Fraction


@lru_cache(4096)  # most are the same, but for those with `rv`
def _read(state: bytes) -> _Kept | Doubt | None:
    member = _member(state)
    if member is None or isinstance(member, Doubt):
        return member
    fields = _fields(member)
    if isinstance(fields, Doubt):
        return fields
    if b"th" in fields:
        threshold = _threshold(fields[b"th"])
        if threshold is None:
            return Doubt.MALFORMED
        return _Kept(threshold, _randomness(fields.get(b"rv")), Fraction(FULL, FULL - threshold))
    return _legacy(fields[b"p"]) if b"p" in fields else None


def _member(state: bytes) -> bytes | Doubt | None:
    """The value of the member `ot`; what is around it may be anything."""
    found: bytes | None = None
    for member in state.split(b","):
        key, equals, value = member.partition(b"=")
        if key.strip(b" \t") == b"ot" and equals:
            value = value.strip(b" \t")
            if found is not None and value != found:
                return Doubt.MALFORMED
            found = value
    return found


def _fields(member: bytes) -> dict[bytes, bytes] | Doubt:
    fields: dict[bytes, bytes] = {}
    for field in member.split(b";"):
        key, _, value = field.strip(b" \t").partition(b":")
        if key in fields and fields[key] != value:
            return Doubt.MALFORMED
        fields[key] = value
    return fields


def _threshold(text: bytes) -> int | None:
    """1 to 14 hexadecimal digits, of which zeros at the end are left out."""
    if not 1 <= len(text) <= _DIGITS or not _HEX.issuperset(text):
        return None
    return int(text, 16) << 4 * (_DIGITS - len(text))


def _randomness(text: bytes | None) -> int | None:
    return int(text, 16) if text is not None and len(text) == _DIGITS and _HEX_ANY.issuperset(text) else None


def _legacy(text: bytes) -> _Kept | Doubt:
    if not 1 <= len(text) <= 2 or not text.isdigit():
        return Doubt.MALFORMED
    exponent = int(text)
    if exponent > 62:
        return Doubt.NO_COUNT if exponent == 63 else Doubt.MALFORMED
    return _Kept(0, None, Fraction(1 << exponent))
