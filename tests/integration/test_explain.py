"""`explain`: every line of a bill can be followed to its requests, and every request to Stripe's answer."""

import json
from pathlib import Path

import pytest
from billing import batch, record
from ledgers import book

from otel_usageflow.cli import main
from otel_usageflow.extensions.sqlite_storage.reader import open_reader
from otel_usageflow.model.outcome import Accepted, Refused, Retry
from otel_usageflow.model.usage import Reason

NOON = 1_700_000_000 - 1_700_000_000 % 60

CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}}}}}
processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /v1/chat
        user: {{header: x-account-id}}
        customer: {{metadata_field: account_id}}
        event_name: api_request
exporters: {{debug: {{}}}}
extensions: {{sqlite_storage: {{directory: "{directory}"}}}}
service:
  extensions: [sqlite_storage]
  pipelines: {{traces: {{receivers: [otlp], processors: [usage_policy], exporters: [debug]}}}}
"""


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
    config = tmp_path / "usageflow.yaml"
    config.write_text(CONFIG.format(directory=tmp_path / "ledger"))
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
    config = tmp_path / "usageflow.yaml"
    config.write_text(CONFIG.format(directory=tmp_path / "ledger"))
    explain = ["explain", "--config", str(config)]
    for arguments, message in (
        (["00" * 15 + "ff"], "knows of no usage in trace"),
        (["--event", "uf_unknown"], "no meter event with the identifier 'uf_unknown'"),
        (["xyz"], "'xyz' is no trace id; it has 32 hexadecimal digits"),
        ([], "give a TRACE_ID, or --event IDENTIFIER"),
    ):
        assert main([*explain, *arguments]) == 1
        assert message in capsys.readouterr().err
