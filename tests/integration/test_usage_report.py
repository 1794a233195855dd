"""`usage`: sums by any of customer, user, event and day, the same however time is cut."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from billing import CHAT, batch, record
from ledger_config import configuration
from ledgers import METER, Book, book

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, transaction
from otel_usageflow.extensions.sqlite_storage.flow import event_steps
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.report import UsageLine
from otel_usageflow.ledger.states import EventStep
from otel_usageflow.model.outcome import Accepted, Refused
from otel_usageflow.model.usage import Reason, Terms

DAY = 86_400
START = 1_700_000_000 - 1_700_000_000 % DAY
TOKENS = Terms("tokens", "tokens", "account_id")


async def _settle(open_book: Book, now: float, refused: str = "") -> None:
    for event in await open_book.ledger.unsettled(0, 1_000):
        await open_book.ledger.begin([event], now)
        outcome = Refused(Reason.REJECTED, "no") if event.customer == refused else Accepted()
        await open_book.ledger.settle(event, outcome, now)


async def _filled(directory: Path) -> None:
    """Three days of usage that stands everywhere where usage can stand."""
    async with book(directory) as open_book:
        open_book.meters["", "tokens"] = Formula.SUM
        await open_book.list_customers({"acme": "cus_1", "beta": "cus_2", "gone": "cus_3"})
        end = START + 3 * DAY
        usage = [record(u, at=START + 7_000 * n, quantity=n) for n in range(37) for u in ("acme", "beta")]
        usage += [record("acme", at=START + 9_000 * n, quantity=Decimal("0.1"), terms=TOKENS) for n in range(28)]
        usage += [record("nobody", at=START + 20_000 * n) for n in range(12)]
        usage += [record("gone", at=START + 30_000 * n) for n in range(8)]
        await open_book.commit(batch(*usage), end)
        for _ in range(40):
            await open_book.freeze(end + 60)
        await _settle(open_book, end + 61, refused="cus_3")
        open_book.meters[METER] = Formula.COUNT
        await open_book.commit(batch(*(record("beta", at=START + 11_000 * n) for n in range(23))), end + 70)
        for _ in range(40):
            await open_book.freeze(end + 80)
        await _settle(open_book, end + 81)
        with closing(open_for_commands(directory)) as connection, transaction(connection):
            event_steps.take(connection, 3, EventStep.CANCEL)
            (refused,) = connection.execute("SELECT min(event_id) FROM meter_events WHERE state = 3").fetchone()
            event_steps.take(connection, refused, EventStep.DISCARD)
        late = [record(u, at=START + 8_000 * n) for n in range(32) for u in ("acme", "nobody")]
        await open_book.commit(batch(*late, record(None, at=START + 5, reason=Reason.NO_USER)), end + 90)


def _usage(directory: Path, since: float | None, until: float | None, by_day: bool = False) -> list[UsageLine]:
    with open_reader(directory) as reader:
        return reader.usage(since, until, by_day=by_day)


def _sums(lines: Iterable[UsageLine]) -> dict[tuple[object, ...], tuple[int, Decimal]]:
    requests: Counter[tuple[object, ...]] = Counter()
    quantity: Counter[tuple[object, ...]] = Counter()
    for line in lines:
        place = (line.event_name, line.user, line.customer, line.standing, line.reason)
        requests[place] += line.requests
        quantity[place] += Decimal(line.quantity)  # type: ignore[assignment]
    return {place: (count, quantity[place]) for place, count in requests.items()}  # type: ignore[misc]


async def test_time_may_be_cut_anywhere(tmp_path: Path) -> None:
    """Whole days come from their sums and parts of days from their rows, and both tell the same."""
    await _filled(tmp_path)
    whole = _sums(_usage(tmp_path, None, None))
    assert {place[3] for place in whole} == {"billed", "quarantined", "collecting", "cancelled", "discarded"}
    for cut in (START, START + 1, START + DAY, START + DAY + 43_201, START + 3 * DAY - 1, START + 3 * DAY):
        assert _sums([*_usage(tmp_path, None, cut), *_usage(tmp_path, cut, None)]) == whole, cut
        within = [*_usage(tmp_path, START, cut), *_usage(tmp_path, cut, START + 4 * DAY)]
        assert _sums(within) == whole, cut
    hours = [line for n in range(72) for line in _usage(tmp_path, START + 3_600 * n, START + 3_600 * (n + 1))]
    assert _sums(hours) == whole


async def test_days_are_those_of_utc(tmp_path: Path) -> None:
    """A line of a day tells what the report of that day tells."""
    await _filled(tmp_path)
    lines = _usage(tmp_path, None, None, by_day=True)
    assert _sums(lines) == _sums(_usage(tmp_path, None, None))
    assert {line.day for line in lines} == {"2023-11-14", "2023-11-15", "2023-11-16"}
    for number, day in enumerate(("2023-11-14", "2023-11-15", "2023-11-16")):
        of_day = _usage(tmp_path, START + number * DAY, START + (number + 1) * DAY)
        assert _sums(line for line in lines if line.day == day) == _sums(of_day)


async def test_sums_may_be_larger_than_64_bits(tmp_path: Path) -> None:
    """Neither the sum of many large integers nor that of text and integers overflows or is rounded."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        usage = [record(at=START + 60 * n, quantity=2**61 + n) for n in range(9)]
        usage += [record(at=START + 60 * n, quantity=10**30) for n in range(9)]
        await open_book.commit(batch(*usage), START + 600)
        expected = 9 * 2**61 + 36 + 9 * 10**30
        assert [line.quantity for line in open_book.usage()] == [expected]
        for _ in range(20):
            await open_book.freeze(START + 1_000)
        await _settle(open_book, START + 1_001)
        assert [line.quantity for line in _usage(tmp_path, None, None)] == [expected]
        assert [line.quantity for line in _usage(tmp_path, START, START + 700)] == [expected]


def _run(capsys: pytest.CaptureFixture[str], directory: Path, *arguments: str) -> str:
    config = configuration(directory)
    capsys.readouterr()  # the log of what was done before
    assert main(["usage", "--config", str(config), *arguments]) == 0
    return capsys.readouterr().out


async def test_the_command_sums_by_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--by` chooses the columns; what different meters count is never added up."""
    await _filled(tmp_path / "ledger")
    everything = json.loads(_run(capsys, tmp_path / "ledger", "--format", "json"))["usage"]
    assert set(everything[0]) == {
        *("account", "event_name", "metadata_field", "user", "customer", "standing", "reason"),
        *("requests", "quantity"),
    }
    by_event = json.loads(_run(capsys, tmp_path / "ledger", "--by", "event", "--format", "json"))["usage"]
    (tokens,) = [one for one in by_event if one["event_name"] == "tokens"]
    assert (tokens["standing"], tokens["requests"], tokens["quantity"]) == ("billed", 28, "2.8")
    by_customer = json.loads(_run(capsys, tmp_path / "ledger", "--by", "customer", "--format", "json"))["usage"]
    (acme,) = [one for one in by_customer if (one["customer"], one["standing"]) == ("cus_1", "billed")]
    assert acme["quantity"] is None
    assert sum(one["requests"] for one in by_customer) == sum(one["requests"] for one in everything)
    rows = list(
        csv.DictReader(io.StringIO(_run(capsys, tmp_path / "ledger", "--by", "day,event", "--format", "csv")))
    )
    assert list(rows[0]) == ["day", "account", "event_name", "standing", "reason", "requests", "quantity"]
    assert [one["day"] for one in rows] == sorted(one["day"] for one in rows)
    assert "2023-11-15" in _run(capsys, tmp_path / "ledger", "--by", "day, customer")


async def test_the_command_knows_what_it_cannot_sum_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A word that is none of the four is named."""
    async with book(tmp_path / "ledger"):
        pass
    config = configuration(tmp_path / "ledger")
    assert main(["usage", "--config", str(config), "--by", "month"]) == 1
    assert "no 'month'; write any of day, event, user, customer" in capsys.readouterr().err


async def test_a_correction_is_a_line_of_its_own(tmp_path: Path) -> None:
    """What corrects a bill never hides what it corrects."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=START, quantity=5, terms=CHAT)), START)
        await open_book.freeze(START + 60)
        await _settle(open_book, START + 61)
        with closing(open_for_commands(tmp_path)) as connection, transaction(connection):
            connection.execute(
                "INSERT INTO meter_events (account_id, event_name, customer, payload, value, timestamp, identifier, "
                "idempotency_key, requests, parts, state, frozen_at) SELECT account_id, event_name, customer, '', "
                "'-2', timestamp, 'uf_s2_x', 'uf_s2_x', 0, 1, 2, 0 FROM meter_events"
            )
            connection.execute(
                "INSERT INTO adjustments (account_id, event_name, customer, quantity, timestamp, whole, origin, why, "
                "actor, asked_at, state, event_id) SELECT account_id, event_name, customer, -2, timestamp, 0, '', "
                "'w', 'me', 0, 'sent', 2 FROM meter_events WHERE event_id = 2"
            )
        found = {line.reason: (line.standing, line.requests, line.quantity) for line in _usage(tmp_path, None, None)}
    assert found == {None: ("billed", 1, 5), "correction": ("billed", 0, -2)}
