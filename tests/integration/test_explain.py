"""`explain`: every line of a bill can be followed to its requests, and every request to Stripe's answer."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from billing import batch, record
from ledger_config import configuration
from ledgers import METER, book
from pruning import prune

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, transaction
from otel_usageflow.extensions.sqlite_storage.flow import event_steps
from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.states import EventStep
from otel_usageflow.model.outcome import Accepted, Refused, Retry
from otel_usageflow.model.usage import Reason

NOON = 1_700_000_000 - 1_700_000_000 % 60


async def _billed(directory: Path, one_by_one: bool = False) -> tuple[str, list[str]]:
    """Two requests of acme in one window, accepted at the second attempt; the identifier and the trace ids."""
    usage = [record(at=NOON + 1, quantity=3), record(at=NOON + 2, quantity=4)]
    async with book(directory, window=1 if one_by_one else 10) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(*usage), NOON + 3)
        events = await open_book.freeze(NOON + 10, one_by_one=one_by_one)
        if one_by_one:
            events += await open_book.freeze(NOON + 10, one_by_one=one_by_one)
        for event in events:
            await open_book.ledger.begin([event], NOON + 11)
            await open_book.ledger.settle(event, Retry("connection reset", uncertain=True), NOON + 12)
        for event in await open_book.ledger.unsettled(0, 10):
            await open_book.ledger.begin([event], NOON + 13)
            await open_book.ledger.settle(event, Accepted("req_7", duplicate=True), NOON + 14)
    return events[0].identifier, [one.trace_id.hex() for one in usage]


@pytest.mark.parametrize("one_by_one", [False, True])
async def test_a_request_is_followed_to_stripes_answer(tmp_path: Path, one_by_one: bool) -> None:
    """Policy, user, where it was found, window, meter event, attempts and the answer."""
    identifier, (trace, _) = await _billed(tmp_path, one_by_one)
    with open_reader(tmp_path) as reader:
        (usage,) = reader.explain_trace(bytes.fromhex(trace))
    assert (usage.policy, usage.user, usage.source) == ("chat", "acme", "header x-account-id")
    assert (usage.quantity, usage.standing, usage.ended_at) == (3, "billed", NOON + 1)
    assert usage.event is not None
    assert (usage.event.identifier, usage.event.customer) == (identifier, "cus_1")
    assert (usage.event.attempts, usage.event.first_attempt_at) == (2, NOON + 11)
    assert (usage.event.state, usage.event.duplicate, usage.event.request_id) == ("accepted", True, "req_7")
    assert usage.window is not None


@pytest.mark.parametrize("one_by_one", [False, True])
async def test_a_meter_event_is_followed_to_its_requests(tmp_path: Path, one_by_one: bool) -> None:
    """The requests of an event add up to its value."""
    identifier, traces = await _billed(tmp_path, one_by_one)
    with open_reader(tmp_path) as reader:
        explained = reader.explain_event(identifier)
    assert explained is not None
    event, requests = explained
    assert [one.trace_id for one in requests] == traces[: 1 if one_by_one else 2]
    assert sum(one.quantity for one in requests) == int(event.value)
    assert len(requests) == event.requests


async def test_what_is_not_billed_says_why(tmp_path: Path) -> None:
    """Quarantine, held windows, refusals and open windows are told apart."""
    kept = {
        "no_user": record(None, at=NOON, reason=Reason.NO_USER)._replace(seen=("http.route", "url.path")),
        "no_customer": record("stranger", at=NOON),
        "rejected": record("acme", at=NOON),
    }
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(*kept.values()), NOON)
        (event,) = await open_book.freeze(NOON + 10)
        await open_book.ledger.begin([event], NOON + 11)
        await open_book.ledger.settle(event, Refused(Reason.REJECTED, "no", "bad"), NOON + 12)
        late = record("acme", at=NOON + 1)
        await open_book.commit(batch(late), NOON + 13)
        with open_reader(tmp_path) as reader:
            told = {name: reader.explain_trace(one.trace_id)[0] for name, one in kept.items()}
            (open_one,) = reader.explain_trace(late.trace_id)
    assert {name: (one.standing, one.reason) for name, one in told.items()} == {
        name: ("quarantined", name) for name in kept
    }
    assert told["no_user"].seen == ("http.route", "url.path")
    assert (open_one.standing, open_one.event) == ("collecting", None)


async def test_the_command_prints_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`explain TRACE_ID` and `explain --event` answer in text and in JSON."""
    identifier, (trace, _) = await _billed(tmp_path / "ledger")
    config = configuration(tmp_path / "ledger")
    explain = ["explain", "--config", str(config)]
    assert main([*explain, trace]) == 0
    text = capsys.readouterr().out
    for expected in ("chat", "acme, found in header x-account-id", identifier, "cus_1", "req_7", "billed"):
        assert expected in text
    assert main([*explain, trace, "--format", "json"]) == 0
    (usage,) = json.loads(capsys.readouterr().out)["usage"]
    assert (usage["quantity"], usage["event"]["value"]) == ("3", "7")
    assert main([*explain, "--event", identifier]) == 0
    assert f"trace {trace}" in capsys.readouterr().out
    assert main([*explain, "--event", identifier, "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["requests"]) == 2


async def test_the_command_says_what_it_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown traces, unknown events and things that are no trace id have messages, and status 1."""
    await _billed(tmp_path / "ledger")
    config = configuration(tmp_path / "ledger")
    explain = ["explain", "--config", str(config)]
    for arguments, message in (
        (["00" * 15 + "ff"], "knows of no usage in trace"),
        (["--event", "uf_unknown"], "no meter event with the identifier 'uf_unknown'"),
        (["xyz"], "'xyz' is no trace id; it has 32 hexadecimal digits"),
        ([], "give a TRACE_ID, or --event IDENTIFIER"),
    ):
        assert main([*explain, *arguments]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("one_by_one", [False, True])
async def test_the_whole_story_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], one_by_one: bool) -> None:
    """Given back and billed by a later event, refused late, sent again: nothing of it is left out."""
    usage = record(at=NOON + 1, quantity=3)
    async with book(tmp_path / "ledger", window=1 if one_by_one else 10) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(usage), NOON + 2)
        (first,) = await open_book.freeze(NOON + 10, one_by_one=one_by_one)
        await open_book.ledger.begin([first], NOON + 11)
        await open_book.ledger.settle(first, Refused(Reason.NO_METER, "no active meter"), NOON + 12)
        await open_book.ledger.reopen_meter(*METER)
        (second,) = await open_book.freeze(NOON + 20, one_by_one=one_by_one)
        await open_book.ledger.begin([second], NOON + 21)
        await open_book.ledger.settle(second, Accepted("req_2"), NOON + 22)
        with closing(open_for_commands(tmp_path / "ledger")) as connection, transaction(connection):
            event_steps.take(connection, second.event_id, EventStep.REJECT)
            connection.execute("UPDATE meter_events SET code = 'late_no' WHERE event_id = ?", (second.event_id,))
            name = event_steps.resend(connection, second.event_id)
        with open_reader(tmp_path / "ledger") as reader:
            (told,) = reader.explain_trace(usage.trace_id)
            of_first = reader.explain_event(first.identifier)
            of_second = reader.explain_event(second.identifier)
    assert told.earlier_events == (first.identifier,)
    assert told.event is not None
    assert told.event.identifier == name
    assert [(one.state, one.identifier, one.code) for one in told.event.earlier] == [
        ("accepted", second.identifier, None),
        ("refused", second.identifier, "late_no"),
    ]
    assert of_first is not None
    assert (of_first[0].state, of_first[0].followed_by) == ("returned", (name,))
    assert [one.trace_id for one in of_first[1]] == [usage.trace_id.hex()]
    assert of_second is not None
    assert of_second[0].identifier == name
    config = configuration(tmp_path / "ledger")
    capsys.readouterr()
    assert main(["explain", "--config", str(config), usage.trace_id.hex()]) == 0
    text = capsys.readouterr().out
    for expected in (f"given back by {first.identifier}", "before that", "late_no", name):
        assert expected in text


async def test_what_is_pruned_is_called_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trace that is not there may have been: the answer says up to when usage is gone."""
    await _billed(tmp_path / "ledger")
    async with book(tmp_path / "ledger") as open_book:
        await open_book.commit(batch(record(at=NOON + 40 * DAY)), NOON + 40 * DAY)
        await prune(open_book, NOON + 40 * DAY)
    config = configuration(tmp_path / "ledger")
    assert main(["explain", "--config", str(config), "00" * 15 + "ff"]) == 1
    assert "settled usage of before 2023-11-19T00:00:00.000Z is pruned" in capsys.readouterr().err


async def test_json_is_that_of_the_other_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Moments in ISO 8601, quantities as strings, and null for the account of the key."""
    _, (trace, _) = await _billed(tmp_path)
    capsys.readouterr()
    assert main(["explain", "--config", str(configuration(tmp_path)), "--format", "json", trace]) == 0
    (usage,) = json.loads(capsys.readouterr().out)["usage"]
    assert (usage["account"], usage["event"]["account"], usage["quantity"]) == (None, None, "3")
    assert (usage["ended_at"], usage["window"]["start"]) == ("2023-11-14T22:13:01.000Z", "2023-11-14T22:13:00.000Z")
    assert usage["event"]["settled_at"] == "2023-11-14T22:13:14.000Z"


async def test_the_event_of_a_correction_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no requests; what it is for, who asked and why is told, and the meter is named."""
    identifier, _ = await _billed(tmp_path)
    with closing(open_for_commands(tmp_path)) as connection, transaction(connection):
        connection.execute(
            "INSERT INTO adjustments (account_id, event_name, customer, quantity, timestamp, whole, origin, why, "
            "actor, asked_at, state, event_id) SELECT account_id, event_name, customer, -3, timestamp, 0, 'adjust', "
            "'refund 77', 'ann@desk', 1, 'billed', event_id FROM meter_events"
        )
    capsys.readouterr()
    assert main(["explain", "--config", str(configuration(tmp_path)), "--event", identifier]) == 0
    out = capsys.readouterr().out
    assert "no requests: this is correction 1, asked for" in out
    assert "by ann@desk: refund 77" in out
    assert "event name    api_request" in out
