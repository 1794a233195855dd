"""What `make fuzz` looks for at length, here for a moment: nothing escapes but what is written down."""

from functools import cache

import pytest
from fuzz_seeds import seeds
from fuzz_subjects import ADJUSTED, EVERYTHING, NOW, SOURCES, SUBJECTS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_usageflow.model.recorded import recorded_request
from otel_usageflow.policy.sources.catalogue import SOURCES as ALL_SOURCES

LONGEST = 4_096


@cache
def _seeds(subject: str) -> list[bytes]:
    return list(seeds(subject, LONGEST))


@st.composite
def damaged(draw: st.DrawFn, subject: str) -> bytes:
    """A seed in which runs of bytes were changed, taken out, repeated or put in."""
    data = bytearray(draw(st.sampled_from(_seeds(subject))))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        piece = bytes(data[start:end])
        data[start:end] = draw(
            st.sampled_from([b"", piece * 2, piece[::-1], b"\xff" * len(piece)]) | st.binary(max_size=8)
        )
    return bytes(data)


def test_every_source_is_fuzzed() -> None:
    """A new source of users comes under the fuzzer."""
    assert {name for source in SOURCES for name in source if name in ALL_SOURCES} == ALL_SOURCES.keys() - {"path"}


@pytest.mark.parametrize("subject", ["evaluate", "json", "recorded"])
def test_seeds_reach_the_policies(subject: str) -> None:
    """What the fuzzer begins with is billed, so that what it makes of it comes far."""
    billed = [
        batch
        for seed in _seeds(subject)
        for batch in [
            EVERYTHING.evaluate(recorded_request(seed), NOW),
            ADJUSTED.evaluate(recorded_request(seed), NOW),
        ]
        if batch.records
    ]
    assert len(billed) > 100


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_seed_is_taken(subject: str) -> None:
    """Spans of real instrumentations break nothing."""
    for seed in _seeds(subject):
        SUBJECTS[subject](seed)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_damaged_seeds_are_taken_or_refused(subject: str) -> None:
    """Spans that were cut, mixed up and overwritten break nothing."""

    @settings(max_examples=150)
    @given(damaged(subject))
    def check(data: bytes) -> None:
        SUBJECTS[subject](data)

    check()


@given(st.sampled_from(sorted(SUBJECTS)), st.binary(max_size=300))
@example("json", b"[" * 100_000)
@example("recorded", b'{"a":' * 100_000)
@example("json", b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": 1e999}]}]}]}')
@example("json", b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": ' + b"9" * 5_000 + b"}]}]}]}")
@example("evaluate", b"\x0a\xff\xff\xff\xff\x0f")
def test_any_bytes_are_taken_or_refused(subject: str, data: bytes) -> None:
    """Bytes that nobody meant break nothing."""
    SUBJECTS[subject](data)


def _nested(depth: int) -> bytes:
    """An attribute whose value is lists within lists."""
    value = b"\x18\x05"
    for _ in range(depth):
        value = _field(5, _field(1, value))
    attribute = _field(1, b"n") + _field(2, value)
    ids = _field(1, b"\1" * 16) + _field(2, b"\1" * 8) + b"\x30\x02"
    span = ids + _field(9, _field(1, b"url.path") + _field(2, _field(1, b"/a"))) + _field(9, attribute)
    return _field(1, _field(2, _field(2, span)))


def _field(number: int, data: bytes) -> bytes:
    size, made = len(data), bytearray()
    while size > 127:
        made.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *made, size]) + data


@pytest.mark.parametrize("depth", [1, 10, 49, 50, 90, 100, 1_000, 20_000])
def test_values_within_values(depth: int) -> None:
    """However deep a value is nested, it is read or refused, and the stack holds."""
    SUBJECTS["evaluate"](_nested(depth))
