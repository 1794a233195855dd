"""Damaged ledgers: never taken for whole, never taken for new, and recovered without billing anything twice."""

import asyncio
import os
import random
import shlex
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from billing import batch, record
from full_ledger import NOON, content, fill
from ledgers import book

from otel_usageflow.cli import main
from otel_usageflow.errors import StorageCorrupt, StorageError, Unavailable
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.upkeep.maintenance import verify_ledger
from otel_usageflow.ledger.states import UNSETTLED, EventState
from otel_usageflow.ledger.verification import Verification

FLIPS = int(os.environ.get("FLIPS", "100"))
"""Of each seed. For many: `FLIPS=5000 pytest tests/integration/test_ledger_damage.py -k flipped --timeout 0`."""


def verified(path: Path) -> Verification:
    """What a verification says."""
    return verify_ledger(path, None, lambda *_: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with something of everything, closed."""
    directory = tmp_path_factory.mktemp("whole")
    asyncio.run(fill(directory))
    with closing(sqlite3.connect(directory / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return directory


async def starts(directory: Path) -> bool:
    """Whether a service would start with this ledger."""
    try:
        async with book(directory):
            return True
    except StorageError:
        return False


def different(
    after: dict[str, list[tuple[object, ...]]], before: dict[str, list[tuple[object, ...]]]
) -> list[object]:
    """The rows that are not in both."""
    return [(name, row) for name in before for row in {*map(repr, after[name])} ^ {*map(repr, before[name])}]


def place(directory: Path, data: bytes) -> None:
    """A directory in which nothing is but this ledger."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    (directory / "ledger.db").write_bytes(data)


@pytest.mark.parametrize("seed", range(4))
async def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, whole: Path, seed: int) -> None:
    """After a flip of any bit the service refuses to start, or `ledger verify` tells, or nothing is different."""
    assert verified(whole).ok
    data, before = (whole / "ledger.db").read_bytes(), content(whole)
    used = [at for at, byte in enumerate(data) if byte]
    # In the header of a row 8 stands for 0 and 9 for 1: half of the flips make a flag or a small number another one.
    small = [at for at in used if data[at] in (8, 9)]
    luck = random.Random(seed)
    outcomes: Counter[str] = Counter()
    damaged = tmp_path / "damaged"
    for turn in range(FLIPS):
        at, bit = (luck.choice(small), 0) if turn % 2 else (luck.choice(used), luck.randrange(8))
        flipped = data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]
        place(damaged, flipped)
        if not await starts(damaged):
            outcomes["refused"] += 1
            continue
        place(damaged, flipped)
        try:
            told = not verified(damaged).ok
        except StorageError:
            told = True
        place(damaged, flipped)
        outcomes["told" if told else "same"] += 1
        assert told or different(content(damaged), before) == [], f"bit {bit} of byte {at}"
    assert outcomes["refused"] > 5
    assert outcomes["told"] > 5


async def test_no_truncation_goes_unnoticed(tmp_path: Path, whole: Path) -> None:
    """Cut off anywhere, the service does not start, and the file stays as it is."""
    data = (whole / "ledger.db").read_bytes()
    luck = random.Random(1)
    damaged = tmp_path / "damaged"
    for size in [0, 1, 99, 4096, len(data) - 1, *(luck.randrange(len(data)) for _ in range(40))]:
        place(damaged, data[:size])
        assert not await starts(damaged), size
        assert (damaged / "ledger.db").read_bytes() == data[:size]
        assert not verified(damaged).ok


async def test_a_ledger_that_is_gone_but_for_its_log(tmp_path: Path, whole: Path) -> None:
    """A write-ahead log without its database is no reason for a fresh start."""
    place(tmp_path / "damaged", b"")
    (tmp_path / "damaged" / "ledger.db").rename(tmp_path / "damaged" / "ledger.db-wal")
    (tmp_path / "damaged" / "ledger.db-wal").write_bytes(b"x" * 5_000)
    with pytest.raises(StorageCorrupt, match="it is gone"):
        async with book(tmp_path / "damaged"):
            pass
    assert not (tmp_path / "damaged" / "ledger.db").exists()


async def crashed(directory: Path, commits: int) -> None:
    """Copy a ledger's files in the middle of its life, with everything in the write-ahead log."""
    live = directory.with_name("live")
    async with book(live) as open_book:
        for number in range(commits):
            await open_book.commit(batch(*(record(f"u{n}", at=NOON) for n in range(20))), NOON + number)
        shutil.copytree(live, directory)
    (directory / "ledger.db-shm").unlink()  # it is made anew after a crash


async def test_a_crash_leaves_a_ledger_that_starts(tmp_path: Path) -> None:
    """Everything that was committed is there again, and a torn end of the log is none of it."""
    await crashed(tmp_path / "copy", 10)
    log = tmp_path / "copy" / "ledger.db-wal"
    log.write_bytes(log.read_bytes() + b"\0" * 3_000)
    async with book(tmp_path / "copy") as open_book:
        assert sum(line.requests for line in open_book.usage()) == 200


@pytest.mark.parametrize("at", [20, 40, 5_000, 12_000], ids=["salt", "frame", "page", "later page"])
async def test_damage_inside_the_log_is_no_torn_end(tmp_path: Path, at: int) -> None:
    """SQLite would leave out what comes after a damaged place of the log; the service does not start."""
    await crashed(tmp_path / "copy", 10)
    log = tmp_path / "copy" / "ledger.db-wal"
    data = bytearray(log.read_bytes())
    data[at] ^= 16
    log.write_bytes(data)
    with pytest.raises(StorageCorrupt, match="write-ahead log"):
        async with book(tmp_path / "copy"):
            pass
    assert log.read_bytes() == data


async def test_damage_while_it_runs_stops_all_writing(tmp_path: Path) -> None:
    """Calls are refused retryably, readiness names the recovery command, and nothing more is written."""
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(*(record(f"u{n}", at=NOON) for n in range(2_000))), NOON)
        with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
            other.execute("UPDATE ledger SET seq = seq")  # so that no connection trusts what it has in memory
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with (tmp_path / "ledger.db").open("r+b") as file:
            size = file.seek(0, 2)
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        for number in range(2):
            with pytest.raises(Unavailable, match="damaged") as refusal:
                await open_book.commit(batch(record(f"new-{number}", at=NOON)), NOON)
            assert "otel-usageflow ledger recover" in str(refusal.value)
        assert "otel-usageflow ledger recover" in open_book.health.problems()["sqlite_storage"]


async def test_the_printed_command_recovers(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the refusal prints can be run as it is; the result is put in place with what that prints, and starts."""
    directory = tmp_path / "a ledger"
    shutil.copytree(whole, directory)
    data = bytearray((directory / "ledger.db").read_bytes())
    with closing(sqlite3.connect(directory / "ledger.db")) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'quarantine'").fetchone()
    data[(root - 1) * 4096 : root * 4096] = b"\xee" * 4096
    place(directory, bytes(data))
    with pytest.raises(StorageCorrupt) as refusal:
        async with book(directory):
            pass
    command = shlex.split(str(refusal.value).split("`")[1])
    assert command[0] == "otel-usageflow"
    assert main(command[1:]) == 0
    printed = capsys.readouterr().out
    assert "quarantine: 0 rows, and not all could be read" in printed
    (verify, put) = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    assert main(shlex.split(verify)[1:]) == 3  # its quarantine is not what its digest says
    process = await asyncio.create_subprocess_shell(put)
    assert await process.wait() == 0
    after, before = content(directory), content(whole)
    for table in ("records", "windows", "held_windows", "series", "meters", "answers"):
        assert after[table] == before[table]
    async with book(directory) as open_book:
        assert await open_book.ledger.unsettled(0, 1_000) == []  # by the stream or by v1: nobody knows any more
    states = _states(directory)
    waiting = [event_id for event_id, state in _states(whole).items() if state in UNSETTLED]
    assert waiting
    assert {states[event_id] for event_id in waiting} == {EventState.UNKNOWN}


def _states(directory: Path) -> dict[int, int]:
    """Meter event -> state."""
    with closing(open_for_reading(directory)) as connection:
        return dict(connection.execute("SELECT event_id, state FROM meter_events"))


async def test_rows_on_both_sides_of_the_damage_are_recovered(tmp_path: Path) -> None:
    """Of a large table only what stands on the damaged page is missing; ids and commits go on where they were."""
    async with book(tmp_path) as open_book:
        for _ in range(10):
            await open_book.commit(batch(*(record(at=NOON + n) for n in range(1_000))), NOON)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        (page,) = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'records' AND pagetype = 'leaf' LIMIT 1 OFFSET 50"
        ).fetchone()
    with (tmp_path / "ledger.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xee" * 4096)
    assert main(["ledger", "recover", str(tmp_path / "ledger.db")]) == 0
    with closing(sqlite3.connect(tmp_path / "recovered.db")) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM records").fetchone()
        assert connection.execute("SELECT copied_seq FROM ledger").fetchone() == (10,)
    assert 9_800 < rows < 10_000
    found = verified(tmp_path / "recovered.db")
    assert found.counts.keys() == {"conservation"}


@pytest.mark.parametrize("at", range(0, 100, 3))
async def test_a_damaged_header_costs_nothing(tmp_path: Path, whole: Path, at: int) -> None:
    """Whatever stands in the file's header, everything is recovered."""
    data = bytearray((whole / "ledger.db").read_bytes())
    data[at] ^= 0xFF
    place(tmp_path / "damaged", bytes(data))
    output = tmp_path / "recovered" / "ledger.db"
    output.parent.mkdir()
    assert main(["ledger", "recover", str(tmp_path / "damaged" / "ledger.db"), "--output", str(output)]) == 0
    assert (tmp_path / "damaged" / "ledger.db").read_bytes() == data
    for table, rows in content(whole).items():
        if table not in ("audit", "ledger", "meter_events", "open_windows"):
            assert content(output.parent)[table] == rows
    assert verified(output).ok


def test_an_empty_file_has_nothing_to_recover(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what is left to do."""
    (tmp_path / "ledger.db").touch()
    assert main(["ledger", "recover", str(tmp_path / "ledger.db")]) == 2
    assert "restore a backup" in capsys.readouterr().err
    assert not (tmp_path / "recovered.db").exists()


async def test_a_running_ledger_is_not_recovered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has it open must stop first."""
    async with book(tmp_path):
        assert main(["ledger", "recover", str(tmp_path / "ledger.db")]) == 2
    assert "in use" in capsys.readouterr().err


async def test_a_new_ledger_is_whole_or_not_there(tmp_path: Path) -> None:
    """A start that was killed while it made the ledger leaves no empty file that the next start must refuse."""
    (tmp_path / "ledger.db.new").write_bytes(b"half")
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(record(at=NOON)), NOON)
    assert not (tmp_path / "ledger.db.new").exists()
    with closing(open_for_reading(tmp_path)) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (1,)
