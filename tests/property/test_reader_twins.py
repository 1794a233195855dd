"""The compiled reader of spans reads what the plain one reads, whatever bytes come."""

import random
from pathlib import Path

import pytest
from fuzz_spans import chosen_requests
from fuzz_subjects import EVERYTHING, NOW
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_twins import Twins, judged, plainly

from otel_usageflow.model.reader import COMPILED
from otel_usageflow.model.recorded import recorded_request
from otel_usageflow.policy.http import BASE_KEYS
from otel_usageflow.proto.spans.v1.spans_pb2 import Request, ScopeSpans, Span

pytestmark = pytest.mark.skipif(not COMPILED, reason="the reader was not compiled: there was no C compiler")

KEYS = frozenset({*BASE_KEYS, "n", "enduser.id", "k" * 127, "k" * 128, "", "http.request.header.x-account-id"})
CAPTURES = sorted(Path(__file__).parents[1].joinpath("captures").glob("*.pb"))
SMALL = st.integers(0, 255)


def attribute(key: bytes, value: bytes) -> bytes:
    """A `KeyValue` of a string, as short as it gets."""
    value = b"\x0a" + bytes([len(value)]) + value
    return b"\x0a" + _length(len(key)) + key + b"\x12" + bytes([len(value)]) + value


def _length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])


attributes = st.one_of(
    st.builds(attribute, st.sampled_from(sorted(key.encode() for key in KEYS)), st.binary(max_size=3)),
    st.builds(attribute, st.binary(max_size=3), st.binary(max_size=3)),
    st.binary(max_size=12),
)
ids = st.sampled_from([b"", bytes(8), bytes(16), b"\x01" * 8, b"\x02" * 16, b"\x03" * 7])
spans = st.builds(
    Span,
    trace_id=ids,
    span_id=ids,
    trace_state=st.binary(max_size=4),
    parent_span_id=ids,
    kind=st.integers(-3, 6) | st.just(2),
    start_time_unix_nano=st.integers(0, 2**64 - 1),
    end_time_unix_nano=st.integers(0, 2**64 - 1),
    attributes=st.lists(attributes, max_size=8),
    dropped_attributes_count=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 2**32 - 1),
)


def request(*scopes: ScopeSpans) -> bytes:
    """A request of one resource."""
    made = Request()
    resource = made.resource_spans.add()
    resource.resource.attributes.append(attribute(b"service.name", b"shop"))
    resource.scope_spans.extend(scopes)
    return made.SerializeToString()


@given(st.lists(st.builds(ScopeSpans, spans=st.lists(spans, max_size=4)), max_size=3))
def test_both_read_any_spans_alike(scopes: list[ScopeSpans]) -> None:
    """Fields, wanted attributes and what tells spans apart are the same, of usual spans and of strange ones."""
    assert Twins(KEYS).check(request(*scopes)) == sum(len(scope.spans) for scope in scopes)


@given(st.binary(max_size=2_000))
def test_both_read_absurd_spans_alike(data: bytes) -> None:
    """Well-formed spans with values of every kind are the same, and so is what the policies make of them."""
    payload = b"".join(chosen_requests(data))
    assert Twins(KEYS).check(payload) >= 0
    assert judged(EVERYTHING, payload, NOW) == judged(plainly(EVERYTHING), payload, NOW)


@settings(max_examples=300)
@given(st.randoms(use_true_random=False), st.lists(spans, min_size=1, max_size=3), st.integers(1, 4))
def test_both_read_spoiled_bytes_alike(chance: random.Random, each: list[Span], changes: int) -> None:
    """Where bytes are changed, inserted, lost or cut off, both read the same or both refuse."""
    payload = bytearray(request(ScopeSpans(spans=each)))
    for _ in range(changes):
        at = chance.randrange(len(payload))
        change = chance.randrange(4)
        if change == 0:
            payload[at] = chance.randrange(256)
        elif change == 1:
            payload.insert(at, chance.choice([0, 1, 8, 0x0B, 0x0C, 0x7F, 0x80, 0xFF]))
        elif change == 2 and len(payload) > 1:
            del payload[at]
        elif at:
            del payload[at:]
    Twins(KEYS).check(bytes(payload))


@given(st.binary(max_size=60))
def test_both_read_any_bytes_alike(data: bytes) -> None:
    """Bytes that nobody meant as a request are refused by both, or read alike."""
    Twins(KEYS).check(data)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_both_read_what_instrumentations_send_alike(path: Path) -> None:
    """Requests of real instrumentations are read the same, and the compiled reader leaves none to the plain one."""
    payload = recorded_request(path.read_bytes())
    twins = Twins(KEYS)
    assert twins.check(payload) > 0
    assert twins.compiled._fast is not None
    assert twins.compiled._fast.read(payload) is not None
    assert judged(EVERYTHING, payload, NOW) == judged(plainly(EVERYTHING), payload, NOW)
