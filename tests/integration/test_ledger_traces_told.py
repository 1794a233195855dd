"""What people are told of requests that are billed by their trace."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from billing import CHAT
from ledger_config import configuration
from ledgers import book
from traces import NOW, SECOND, TOKENS, TRACE, request, settle_traces, span, span_id, trace_batch

from otel_usageflow.cli import main

TERMS = replace(CHAT, quantity=None)
ENTRY = span(1, 90, entry=True)


async def test_a_waiting_request_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of it is billed yet, and it says until when; `usage` says that it is not in there."""
    ledger = tmp_path / "ledger"
    async with book(ledger) as opened:
        await opened.commit(trace_batch(ENTRY, span(2, 1, tokens=3), request(1, terms=TERMS)), NOW)
    capsys.readouterr()
    assert main(["explain", "--config", str(configuration(ledger)), TRACE.hex(), "--format", "json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["usage"]
    assert (told["standing"], told["user"], told["quantity"]) == ("waiting", "acme", None)
    assert told["waits_until"] == "2027-01-15T08:00:05.000Z"
    assert main(["explain", "--config", str(configuration(ledger)), TRACE.hex()]) == 0
    text = capsys.readouterr().out
    assert "for spans of its trace until 2027-01-15T08:00:05.000Z" in text
    assert "not known yet" in text
    assert main(["usage", "--config", str(configuration(ledger))]) == 0
    assert "Not in here: 1 request waits for spans of the trace" in capsys.readouterr().err


async def test_a_sum_is_explained_span_by_span(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which spans counted, with which attribute; and what came late says whose it is."""
    ledger = tmp_path / "ledger"
    late = (NOW + 30) * SECOND
    async with book(ledger) as opened:
        await opened.commit(
            trace_batch(
                ENTRY, span(2, 1, tokens=5), span(3, 2, tokens=3), span(4, 2, tokens=2), request(1, terms=TERMS)
            ),
            NOW,
        )
        await settle_traces(opened, NOW + 5)
        await opened.commit(trace_batch(span(5, 1, tokens=9, ended_ns=late)), NOW + 30)
        await settle_traces(opened, NOW + 35)
    command = ["explain", "--config", str(configuration(ledger)), TRACE.hex()]
    capsys.readouterr()
    assert main([*command, "--format", "json"]) == 0
    told, after = json.loads(capsys.readouterr().out)["usage"]
    assert told["quantity"] == "5"
    assert told["made_of"] == [
        {"span_id": span_id(number).hex(), "attribute": TOKENS, "quantity": quantity}
        for number, quantity in ((3, "3"), (4, "2"))
    ]
    assert told["late_for"] is None
    assert (after["span_id"], after["quantity"], after["late_for"]) == (span_id(5).hex(), "9", span_id(1).hex())
    assert main(command) == 0
    text = capsys.readouterr().out
    assert f"span {span_id(3).hex()}: {TOKENS} 3" in text
    assert f"the request of span {span_id(1).hex()}, which was billed before this came" in text


async def test_a_bad_quantity_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The span that holds no number is named."""
    ledger = tmp_path / "ledger"
    async with book(ledger) as opened:
        await opened.commit(trace_batch(ENTRY, span(2, 1, amounts={TOKENS: None}), request(1, terms=TERMS)), NOW)
        await settle_traces(opened, NOW + 5)
    assert main(["explain", "--config", str(configuration(ledger)), TRACE.hex()]) == 0
    text = capsys.readouterr().out
    assert f"span {span_id(2).hex()}: {TOKENS} no number that can be billed" in text
    assert "quarantined: bad_quantity" in text
