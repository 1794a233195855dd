"""The index of traces: made behind the back of the taking of usage, and never wrong about a trace."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from billing import batch, record
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import book

from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, open_for_reading, transaction
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.extensions.sqlite_storage.reading.trace_index import SLICE
from otel_usageflow.ledger.charge import charge_key
from otel_usageflow.model.usage import Reason, UnflaggedSpan, UsageBatch, UsageRecord

START = 1_700_000_000 - 1_700_000_000 % SLICE


def _found(directory: Path, *usage: UsageRecord) -> list[int]:
    """How many charges the ledger explains of each of these traces."""
    with open_reader(directory) as reader:
        return [len(reader.explain_trace(one.trace_id)) for one in usage]


def _indexed(directory: Path) -> set[int]:
    with closing(open_for_reading(directory)) as connection:
        return trace_index.indexed_slices(connection)


async def test_traces_are_found_with_an_index_without_one_and_with_half_of_one(tmp_path: Path) -> None:
    """Usage and quarantine of every slice is found, before and after it has an index."""
    usage = [record(at=START + 97 * n, number=10**6 + 255 * n) for n in range(60)]
    kept = [record(None, at=START + 500 + 90 * n, reason=Reason.NO_USER) for n in range(40)]
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(*usage[:30], *kept[:20]), START + 6000)
        assert _found(tmp_path, *usage, *kept) == [1] * 30 + [0] * 30 + [1] * 20 + [0] * 20
        assert await open_book.storage.upkeep.index() > 3
        await open_book.commit(batch(*usage[30:], *kept[20:]), START + 6000)
        assert _found(tmp_path, *usage, *kept) == [1] * 100
        assert await open_book.storage.upkeep.index() > 3
        assert _found(tmp_path, *usage, *kept) == [1] * 100
        assert await open_book.storage.upkeep.index() == 0


@given(
    traces=st.lists(
        st.tuples(st.sampled_from([0, 1, 2, 255, 256, 2**32, 2**40, 2**40 + 1, 2**64 - 1]), st.integers(0, 1300)),
        min_size=1,
        max_size=12,
    ),
    some=st.sets(st.integers(0, 2)),
)
@settings(max_examples=25, deadline=None)
def test_whatever_the_ids_and_times_each_charge_is_found(
    tmp_path_factory: Callable[..., Path], traces: list[tuple[int, int]], some: set[int]
) -> None:
    """Ids that share bytes, several spans of a trace, any second: the index tells exactly the charges there are."""
    directory = tmp_path_factory.mktemp("ledger")  # type: ignore[attr-defined]
    usage = [
        record(at=START + second)._replace(trace_id=trace.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
        for number, (trace, second) in enumerate(traces, 1)
    ]

    async def fill() -> None:
        async with book(directory) as open_book:
            await open_book.commit(batch(*usage), START + 1400)

    asyncio.run(fill())
    with closing(open_for_commands(directory)) as connection:
        for number in (START // SLICE + one for one in some):
            with transaction(connection):
                trace_index.claim(connection, number)
                made = trace_index.read(connection, number)
                trace_index.write(connection, number, made.buckets.items())
                assert trace_index.finish(connection, number, made)
        for trace in {trace for trace, _ in traces} | {3, 2**32 + 1}:
            keys = sorted(
                charge_key(1, one.trace_id, one.span_id, one.ended_ns)
                for one in usage
                if one.trace_id == trace.to_bytes(16, "big")
            )
            assert trace_index.find(connection, trace.to_bytes(16, "big")) == keys


async def test_usage_that_comes_late_is_found(tmp_path: Path) -> None:
    """A record for a slice that has an index, or is getting one, makes that index count no more."""
    first, late, later = (record(at=START + second) for second in (1, 2, 3))
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(first), START)
        await open_book.storage.upkeep.index()
        assert _indexed(tmp_path) == {START // SLICE}
        await open_book.commit(batch(late), START)
        assert _indexed(tmp_path) == set()
        assert _found(tmp_path, first, late) == [1, 1]
        await open_book.storage.upkeep.index()
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(first), START)
        assert _indexed(tmp_path) == {START // SLICE}, "nothing was new"
        await open_book.commit(batch(later), START)
        assert _found(tmp_path, first, late, later) == [1, 1, 1]


async def test_a_commit_between_reading_a_slice_and_writing_its_index(tmp_path: Path) -> None:
    """What the index does not hold was committed after it was read, and then the index does not count."""
    first, late = (record(at=START + second) for second in (1, 2))
    async with book(tmp_path) as open_book:
        upkeep, number = open_book.storage.upkeep, START // SLICE
        await open_book.commit(batch(first), START)
        await upkeep._write(lambda c: upkeep._claim(c, number))
        made = upkeep._read(lambda c: trace_index.read(c, number))
        await open_book.commit(batch(late), START)
        await upkeep._write(lambda c: trace_index.write(c, number, made.buckets.items()))
        assert not await upkeep._write(lambda c: trace_index.finish(c, number, made))
        assert _found(tmp_path, first, late) == [1, 1]
        assert await upkeep.index() == 1
        assert _found(tmp_path, first, late) == [1, 1]


async def test_the_digest_tells_a_changed_record(tmp_path: Path) -> None:
    """A record that is changed by the ledger outdates its slice; one that is changed by anything else shows."""
    trace, outer, inner = (7).to_bytes(16, "big"), (1).to_bytes(8, "big"), (2).to_bytes(8, "big")
    child = record(at=START, quantity=5)._replace(trace_id=trace, span_id=inner)
    parent = record(at=START, quantity=1)._replace(trace_id=trace, span_id=outer)
    number = START // SLICE
    async with book(tmp_path) as open_book:
        below = UnflaggedSpan(trace, inner, outer, "shop", child.ended_ns)
        await open_book.commit(UsageBatch([child], [below]), START)
        await open_book.storage.upkeep.index()
        above = UnflaggedSpan(trace, outer, b"", "shop", parent.ended_ns)
        await open_book.commit(UsageBatch([parent], [above]), START)
        assert _indexed(tmp_path) == set()
        await open_book.storage.upkeep.index()
    with closing(open_for_commands(tmp_path)) as connection:
        kept = connection.execute("SELECT records, digest FROM trace_slices").fetchone()
        made = trace_index.read(connection, number)
        assert (made.records, made.digest) == kept == (2, made.digest)
        connection.execute("UPDATE records SET quantity = quantity + 1 WHERE quantity IS NOT NULL")
        assert trace_index.read(connection, number).digest != kept[1]


async def test_a_slice_that_is_not_over_has_no_index(tmp_path: Path) -> None:
    """The newest usage still comes in."""
    usage = record()
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(usage), usage.ended_ns / 10**9)
        assert await open_book.storage.upkeep.index() == 0
        assert _found(tmp_path, usage) == [1]
