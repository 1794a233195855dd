"""What samplers leave behind in trace ids: each language's own rule is found, and ids that are not random are not."""

import random
import struct
import uuid
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from otel_usageflow.policy.trace_ids import CONSISTENT, MOST, Kept, kept_by, needed

Samples = Callable[[bytes, float], bool]


def python(trace_id: bytes, ratio: float) -> bool:
    """The installed SDK's own sampler."""
    sampler = TraceIdRatioBased(ratio)
    return sampler.should_sample(None, int.from_bytes(trace_id, "big"), "x").decision is Decision.RECORD_AND_SAMPLE


# The others are built from the samplers' sources (opentelemetry-go sdk/trace/sampling.go, opentelemetry-java
# TraceIdRatioBasedSampler.java, opentelemetry-js TraceIdRatioBasedSampler.ts, opentelemetry-dotnet
# TraceIdRatioBasedSampler.cs, opentelemetry-cpp trace_id_ratio.cc, opentelemetry-php TraceIdRatioBasedSampler.php,
# opentelemetry-ruby trace_id_ratio_based.rb, opentelemetry-erlang otel_sampler_trace_id_ratio_based.erl), not run;
# tests/interop/test_interop_samplers.py runs those of JavaScript and Java.


def go(trace_id: bytes, ratio: float) -> bool:
    """The upper 63 bits of the last eight bytes."""
    return int.from_bytes(trace_id[8:], "big") >> 1 < int(ratio * (1 << 63))


def old_go(trace_id: bytes, ratio: float) -> bool:
    """The same of the first eight."""
    return int.from_bytes(trace_id[:8], "big") >> 1 < int(ratio * (1 << 63))


def java(trace_id: bytes, ratio: float) -> bool:
    """The magnitude of the last eight bytes as a signed number; that of the smallest is itself."""
    number = int.from_bytes(trace_id[8:], "big", signed=True)
    return (number if number == -(1 << 63) else abs(number)) < int(ratio * ((1 << 63) - 1))


def dotnet(trace_id: bytes, ratio: float) -> bool:
    """The magnitude of the first eight bytes as a signed number."""
    return abs(int.from_bytes(trace_id[:8], "big", signed=True)) < int(ratio * ((1 << 63) - 1))


def javascript(trace_id: bytes, ratio: float) -> bool:
    """The four words, one xor the other."""
    accumulated = 0
    for word in struct.unpack(">4I", trace_id):
        accumulated ^= word
    return accumulated < int(ratio * 0xFFFFFFFF)


def cpp(trace_id: bytes, ratio: float) -> bool:
    """The first eight bytes as the machine reads them, which is from the last to the first."""
    return int.from_bytes(trace_id[:8], "little") / (2**64 - 1) <= ratio


def ruby(trace_id: bytes, ratio: float) -> bool:
    """The last eight bytes."""
    return int.from_bytes(trace_id[8:], "big") < ratio * (2**64 - 1)


def php(trace_id: bytes, ratio: float) -> bool:
    """The last seven bytes, from a threshold on; it writes no threshold."""
    return int.from_bytes(trace_id[9:], "big") >= (1 - ratio) * (1 << 56)


def old_php(trace_id: bytes, ratio: float) -> bool:
    """The last fifteen hexadecimal digits."""
    return int(trace_id.hex()[-15:], 16) < ratio * ((1 << 60) - 1)


def erlang(trace_id: bytes, ratio: float) -> bool:
    """The low 63 bits."""
    return int.from_bytes(trace_id, "big") & ((1 << 63) - 1) < ratio * ((1 << 63) - 1)


SAMPLERS = (python, go, old_go, java, dotnet, javascript, cpp, ruby, php, old_php, erlang)


def kept(samples: Samples, ratio: float, count: int, seed: int = 1) -> set[bytes]:
    """So many random trace ids that a sampler lets through."""
    return set(_kept(samples, ratio, count, random.Random(seed)))


def _kept(samples: Samples, ratio: float, count: int, chance: random.Random) -> Iterator[bytes]:
    while count:
        trace_id = chance.randbytes(16)
        if samples(trace_id, ratio):
            count -= 1
            yield trace_id


@pytest.mark.parametrize("ratio", [0.9, 0.5, 0.25, 0.1, 0.01])
@pytest.mark.parametrize("samples", SAMPLERS)
def test_a_ratio_sampler_is_found(samples: Samples, ratio: float) -> None:
    """Every sampler's rule shows after as many traces as `needed` says, with about its ratio."""
    found = kept_by(kept(samples, ratio, max(64, needed(ratio))))
    assert found is not None
    assert found.share == pytest.approx(ratio, rel=0.2)
    assert found.share < ratio + 1e-6


@pytest.mark.parametrize(
    ("samples", "named"),
    [
        (python, "Python"), (go, "Go"), (ruby, "Ruby"), (java, "Java"), (javascript, "JavaScript"), (dotnet, ".NET"),
        (cpp, "C++"), (php, "PHP"), (old_go, "old Go"), (old_php, "old PHP"), (erlang, "Erlang"),
    ],
)  # fmt: skip
def test_the_sampler_is_named(samples: Samples, named: str) -> None:
    """Where several rules would fit, the one with the smallest share is it."""
    found = kept_by(kept(samples, 0.02, 100))
    assert found is not None
    assert named in found.rule


def test_a_consistent_sampler_is_one() -> None:
    """Thresholds cut off the low 56 bits from below; Collectors and SDKs that write th do."""
    found = kept_by(kept(php, 0.3, 100))
    assert isinstance(found, Kept)
    assert found.rule == CONSISTENT
    assert found.traces == 100


@pytest.mark.parametrize("ratio", [0.5, 0.1])
def test_ids_of_x_ray_are_judged_by_what_is_random_in_them(ratio: float) -> None:
    """Their first four bytes are the time: neither taken for a sampler's work, nor in the way of finding one."""
    chance = random.Random(3)
    ids = {struct.pack(">I", 0x6A000000 + number // 50) + chance.randbytes(12) for number in range(20 * MOST)}
    assert kept_by(set(sorted(ids)[:MOST])) is None
    assert kept_by({id_ for id_ in ids if python(id_, ratio)}) is not None


def _uuid7(chance: random.Random, number: int) -> bytes:
    high = (1_766_000_000_000 + number) << 16 | 0x7000 | chance.getrandbits(12)
    return (high << 64 | 0b10 << 62 | chance.getrandbits(62)).to_bytes(16, "big")


NOT_RANDOM: dict[str, Callable[[random.Random, int], bytes]] = {
    "uuid4": lambda chance, _: uuid.UUID(int=chance.getrandbits(128), version=4).bytes,
    "uuid7": _uuid7,
    "uuid1": lambda _, number: uuid.uuid1(node=0x1234, clock_seq=number % 3).bytes,
    "64 bits, as of B3": lambda chance, _: bytes(8) + chance.randbytes(8),
    "64 bits and a time, as of Datadog": lambda chance, n: (
        struct.pack(">II", 0x6A000000 + n, 0) + chance.randbytes(8)
    ),
    "numbers": lambda _, number: (number + 1).to_bytes(16, "big"),
    "numbers from a million on": lambda _, number: (number + 10**6).to_bytes(16, "big"),
    "numbers in front": lambda _, number: (number + 1).to_bytes(8, "big") + bytes(8),
    "times in nanoseconds": lambda _, number: (1_766_000_000_000_000_000 + number * 1_000_003).to_bytes(16, "big"),
    "32 random bits": lambda chance, _: bytes(12) + chance.randbytes(4),
    "text": lambda chance, number: f"{number:06d}-{chance.getrandbits(32):09x}".encode()[:16],
    "constant": lambda _, _number: b"\x01" * 16,
}


@pytest.mark.parametrize("how", NOT_RANDOM)
@pytest.mark.parametrize("count", [25, 300, MOST])
def test_ids_that_are_not_random_are_not_judged(how: str, count: int) -> None:
    """Ids made of UUIDs, times or numbers never look sampled, however many come."""
    chance = random.Random(5)
    assert kept_by({NOT_RANDOM[how](chance, number) for number in range(count)}) is None


def test_how_many_traces_it_takes() -> None:
    """The figures that the documentation gives."""
    assert [needed(share) for share in (0.95, 0.9, 0.5, 0.1, 0.01)] == [898, 438, 67, 21, 11]
    assert needed(0.95) <= MOST


def test_a_few_traces_say_nothing() -> None:
    """No trace ids, or one, are no evidence."""
    assert kept_by(set()) is None
    assert kept_by({bytes(15) + b"\x01"}) is None
