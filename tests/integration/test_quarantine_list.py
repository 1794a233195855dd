"""`quarantine list`: everything that could not be billed, in groups or one by one, and what explain says of it."""

import asyncio
import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from billing import batch, record
from ledgers import book
from quarantine_command import quarantine

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.model.outcome import Refused
from otel_usageflow.model.usage import Reason


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


async def fill(ledger: Path) -> dict[str, bytes]:
    """Two requests without a user, two held windows, a refused event, and one billed as usual; trace ids."""
    now = time.time()
    at = now // 60 * 60 - 120
    nobody = record(None, reason=Reason.NO_USER, at=at)._replace(seen=("http.route", "url.path"))
    stranger, rejected = record("stranger", at=at - 9 * DAY, quantity=7), record("acme", at=at, quantity=4)
    async with book(ledger) as open_book:
        await open_book.list_customers({"acme": "cus_1", "beta": "cus_2"})
        another = record(None, reason=Reason.NO_USER, at=at + 1)
        await open_book.commit(batch(nobody, another, stranger, record("stranger", at=at), rejected), now)
        (event,) = await open_book.freeze(now)
        await open_book.ledger.begin([event], now)
        refusal = Refused(Reason.REJECTED, "too many digits", "meter_event_value_too_many_digits")
        await open_book.ledger.settle(event, refusal, now)
    return {"nobody": nobody.trace_id, "stranger": stranger.trace_id, "rejected": rejected.trace_id}


def printed(capsys: pytest.CaptureFixture[str], ledger: Path, *arguments: str) -> Any:
    """What `quarantine list --format json` prints."""
    capsys.readouterr()  # the log of the ledger that was filled
    assert quarantine(ledger, "list", "--format", "json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


async def test_all_three_places_are_listed(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Requests, windows and events are grouped, with ages, what is left of 35 days, and a remedy each."""
    await fill(ledger)
    document = await asyncio.to_thread(printed, capsys, ledger)
    groups = {group["reason"]: group for group in document["quarantine"]}
    assert {reason: (one["requests"], one["quantity"]) for reason, one in groups.items()} == {
        "no_customer": (2, "8"),
        "no_user": (2, "2"),
        "rejected": (1, "4"),
    }
    assert (groups["no_user"]["user"], groups["no_user"]["policy"]) == (None, "chat")
    assert (groups["no_customer"]["user"], groups["no_customer"]["metadata_field"]) == ("stranger", "account_id")
    assert 25.9 <= groups["no_customer"]["days_left"] <= 26
    rejected = groups["rejected"]
    assert (rejected["user"], rejected["customer"], rejected["policy"]) == ("acme", "cus_1", "chat")
    assert rejected["code"] == "meter_event_value_too_many_digits"
    assert "15 digits" in rejected["remedy"]
    assert document["totals"] == [
        {"reason": "no_customer", "requests": 2},
        {"reason": "no_user", "requests": 2},
        {"reason": "rejected", "requests": 1},
    ]


@pytest.mark.parametrize(
    ("filters", "reasons"),
    [
        (("--reason", "no_user", "--reason", "rejected"), ["no_user", "rejected"]),
        (("--policy", "chat"), ["no_customer", "no_user", "rejected"]),
        (("--policy", "other"), []),
        (("--user", "acme"), ["rejected"]),
        (("--user", "stranger"), ["no_customer"]),
        (("--customer", "cus_1"), ["rejected"]),
        (("--event-name", "api_request"), ["no_customer", "no_user", "rejected"]),
        (("--account", "own"), ["no_customer", "no_user", "rejected"]),
        (("--account", "acct_1"), []),
        (("--until", "8d"), ["no_customer"]),
        (("--since", "8d", "--reason", "no_customer"), ["no_customer"]),
        (("--identifier", "uf_s1_" + "0" * 40), []),
    ],
)
async def test_filters_narrow_it(
    ledger: Path, capsys: pytest.CaptureFixture[str], filters: tuple[str, ...], reasons: list[str]
) -> None:
    """Each filter leaves what fits, in all three places."""
    await fill(ledger)
    document = await asyncio.to_thread(printed, capsys, ledger, *filters)
    assert [group["reason"] for group in document["quarantine"]] == reasons


async def test_a_trace_and_an_identifier_are_found(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--trace and --identifier lead to the entries that they are part of."""
    traces = await fill(ledger)
    for name, reason in (("nobody", "no_user"), ("stranger", "no_customer"), ("rejected", "rejected")):
        found = await asyncio.to_thread(printed, capsys, ledger, "--trace", traces[name].hex())
        assert [group["reason"] for group in found["quarantine"]] == [reason]
        found = await asyncio.to_thread(printed, capsys, ledger, "--trace", traces[name].hex(), "--entries")
        assert [one["trace_id"] for one in found["requests"]] == [traces[name].hex()]
    identifier = found["requests"][0]["identifier"]
    found = await asyncio.to_thread(printed, capsys, ledger, "--identifier", identifier)
    assert [group["customer"] for group in found["quarantine"]] == ["cus_1"]


async def test_single_requests_say_what_their_span_carried(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --entries: trace, span, moment and the names of the attributes; a limit, and whether there are more."""
    traces = await fill(ledger)
    document = await asyncio.to_thread(printed, capsys, ledger, "--entries")
    assert len(document["requests"]) == 5
    (nobody,) = [one for one in document["requests"] if one["trace_id"] == traces["nobody"].hex()]
    assert (nobody["seen"], nobody["user"], nobody["quantity"]) == (["http.route", "url.path"], None, "1")
    document = await asyncio.to_thread(printed, capsys, ledger, "--entries", "--limit", "2")
    assert (len(document["requests"]), document["more"]) == (2, True)


async def test_every_form_says_the_same(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CSV has the columns of JSON; the table has readable ages and says how much there is in all."""
    await fill(ledger)
    capsys.readouterr()
    assert await asyncio.to_thread(quarantine, ledger, "list", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["reason"], row["requests"]) for row in rows] == [
        ("no_customer", "2"),
        ("no_user", "2"),
        ("rejected", "1"),
    ]
    for more in ((), ("--entries",)):
        assert await asyncio.to_thread(quarantine, ledger, "list", *more) == 0
    text = capsys.readouterr().out
    for expected in (
        "5 requests in quarantine: 2 no_customer, 2 no_user, 1 rejected",
        "days left",
        "0m ago",
        "url.path",
    ):
        assert expected in text


async def test_an_empty_quarantine_says_so(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to show is said in words, and is no error."""
    async with book(ledger):
        pass
    capsys.readouterr()
    assert await asyncio.to_thread(quarantine, ledger, "list") == 0
    assert await asyncio.to_thread(quarantine, ledger, "release", "--yes") == 0
    told = capsys.readouterr()
    assert told.out == "Nothing is in quarantine.\n"
    assert told.err == "Nothing in quarantine fits.\n"


def test_without_a_ledger_the_status_is_2(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A ledger that is not there is said plainly."""
    for command in ("list", "release"):
        assert quarantine(ledger, command) == 2
        assert "there is no ledger" in capsys.readouterr().err


async def test_explain_tells_what_was_decided(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who released or discarded a request, when and why, stands with what became of it."""
    traces = await fill(ledger)
    decide = ["--because", "asked for", "--yes"]
    assert (
        await asyncio.to_thread(
            quarantine, ledger, "release", "--trace", traces["nobody"].hex(), "--as-user", "beta", *decide
        )
        == 0
    )
    for reason in ("no_user", "no_customer"):
        assert await asyncio.to_thread(quarantine, ledger, "discard", "--reason", reason, *decide) == 0
    assert await asyncio.to_thread(quarantine, ledger, "release", "--reason", "rejected", *decide) == 0
    with open_reader(ledger) as reader:
        told = {name: reader.explain_trace(trace) for name, trace in traces.items()}
    assert {
        name: [(one.standing, [d.action for d in one.decisions]) for one in found] for name, found in told.items()
    } == {
        "nobody": [("collecting", ["released"])],
        "stranger": [("discarded", ["discarded"])],
        "rejected": [("sending", ["released"])],
    }
    (nobody,) = told["nobody"]
    assert (nobody.user, nobody.source) == ("beta", "header x-account-id and released --as-user")
    assert main(["explain", "--config", str(ledger.parent / "usageflow.yaml"), traces["stranger"].hex()]) == 0
    text = capsys.readouterr().out
    assert "asked for" in text
    assert "discarded" in text


async def test_a_terminal_of_100_columns_is_enough(
    ledger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trace ids can be copied whole, and each remedy is told once, in words that are not folded letter by letter."""
    traces = await fill(ledger)
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    assert await asyncio.to_thread(quarantine, ledger, "list") == 0
    out = capsys.readouterr().out
    assert out.count("give a customer this user in the metadata field") == 1
    assert max(map(len, out.splitlines()[2:])) <= 100
    assert await asyncio.to_thread(quarantine, ledger, "list", "--entries") == 0
    out = capsys.readouterr().out
    assert all(trace.hex() in out for trace in traces.values())
    assert "carried: http.route, url.path" in out


async def test_days_left_is_a_number(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 in JSON when it is too late, never a word; the table says the word."""
    now = time.time()
    async with book(ledger) as open_book:
        await open_book.list_customers({})
        await open_book.commit(batch(record("stranger", at=now - 34 * DAY)), now - 2 * DAY)
        await open_book.freeze(now - 2 * DAY)
        await open_book.commit(batch(record(None, reason=Reason.NO_USER, at=now - 36 * DAY)), now - 2 * DAY)
    document = await asyncio.to_thread(printed, capsys, ledger)
    assert [one["days_left"] for one in document["quarantine"] if one["user"] is None] == [0.0]
    assert await asyncio.to_thread(quarantine, ledger, "list") == 0
    assert "too late" in capsys.readouterr().out
