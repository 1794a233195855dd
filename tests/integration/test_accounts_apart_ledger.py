"""What one company can do to another one's usage on the same ledger, knowing all of its ids: nothing.

The spans of each come with a token of its own. The attacker sends whatever it likes; the bill of the victim must be
what it would be if it were alone.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from billing import CHAT, batch, record
from companies import ACME, BETA, BOOK, OWN, of_company, terms_in
from ledgers import Book, book
from traces import NOW, TERMS, TRACE, request, settle_traces, span, span_id, trace_batch

from otel_usageflow.extensions.sqlite_storage.connect import ingest_tokens
from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, transaction
from otel_usageflow.ledger.former import filed, former
from otel_usageflow.ledger.freeze import Formula, FreezeRules
from otel_usageflow.ledger.ingest_tokens import IngestToken
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.usage import UnflaggedSpan, UsageBatch, UsageRecord

NOON = 1_700_000_000 - 1_700_000_000 % 60
VICTIMS = pytest.mark.parametrize(("victim", "attacker"), [(ACME, BETA), (OWN, BETA)])


@asynccontextmanager
async def companies(directory: Path) -> AsyncIterator[Book]:
    """A ledger in which acme is a customer of the operator and of both companies, and all have the meters."""
    async with book(directory) as opened:
        connection = open_for_commands(directory)
        for account in (ACME, BETA):
            token = IngestToken(f"it_{account}", "", BOOK, account, 1.0)
            with transaction(connection):
                ingest_tokens.create(connection, token, account.encode(), "tests")
        connection.close()
        for account in (OWN, ACME, BETA):
            for name in (CHAT.event_name, TERMS.event_name):
                opened.meters[account, name] = Formula.SUM
            change = CustomerChange(f"cus_{account}", {"account_id": "acme"})
            await opened.ledger.apply_customers(account, opened.fields, [change], 1)
        yield opened


async def frozen(opened: Book, now: float) -> list[MeterEvent]:
    """What is due of all accounts, whose customers are all listed."""
    listed = {(account, name) for account in (OWN, ACME, BETA) for name in opened.fields}
    rules = FreezeRules(now, 60, False, opened.meters, listed, lambda _lane: False)
    return await opened.ledger.freeze(rules, 100)


async def billed(opened: Book, now: float) -> dict[str, str]:
    """Account -> what is frozen of acme's."""
    return {event.account: event.value for event in await frozen(opened, now)}


def one(span: bytes, quantity: int = 1, *, at: float = NOON) -> UsageRecord:
    """A request of the victim's trace."""
    return record(at=at, quantity=quantity)._replace(trace_id=TRACE, span_id=span)


def unflagged(span: int, parent: int | None, quantity: int = 1) -> UsageBatch:
    """A SERVER span of an old SDK, with its record."""
    above = b"" if parent is None else span_id(parent)
    known = UnflaggedSpan(TRACE, span_id(span), above, "shop", NOON * 10**9)
    return UsageBatch(records=[one(span_id(span), quantity)], unflagged=[known])


@VICTIMS
@pytest.mark.parametrize("first", [True, False])
async def test_the_same_ids_are_two_requests(tmp_path: Path, victim: str, attacker: str, first: bool) -> None:
    """Whoever comes first."""
    async with companies(tmp_path) as opened:
        ours, theirs = of_company(batch(one(span_id(1), 3)), victim), of_company(batch(one(span_id(1), 7)), attacker)
        for usage in (theirs, ours) if first else (ours, theirs):
            assert (await opened.ledger.commit(usage, NOON)).billed == 1
        assert await billed(opened, NOON + 10) == {victim: "3", attacker: "7"}


@VICTIMS
async def test_a_request_is_no_inner_span_of_anothers(tmp_path: Path, victim: str, attacker: str) -> None:
    """A span that names another company's span as its parent is a request all the same."""
    async with companies(tmp_path) as opened:
        await opened.commit(of_company(unflagged(1, None), attacker), NOON)
        await opened.commit(of_company(unflagged(2, 1, 3), victim), NOON)
        assert await billed(opened, NOON + 10) == {victim: "3", attacker: "1"}


@VICTIMS
async def test_a_charge_is_not_taken_back_for_anothers_parent(tmp_path: Path, victim: str, attacker: str) -> None:
    """Of a span that comes later and says it is the outer one."""
    async with companies(tmp_path) as opened:
        await opened.commit(of_company(unflagged(2, 1, 3), victim), NOON)
        await opened.commit(of_company(unflagged(1, None), attacker), NOON)
        await opened.commit(of_company(unflagged(2, 1), attacker), NOON)
        await opened.commit(of_company(unflagged(1, None), attacker), NOON)
        assert (await billed(opened, NOON + 10))[victim] == "3"


@VICTIMS
async def test_a_frozen_charge_of_another_stands_for_no_request(tmp_path: Path, victim: str, attacker: str) -> None:
    """The outer span is billed, and only it, though the attacker was billed for spans with its inner one's ids."""
    async with companies(tmp_path) as opened:
        await opened.commit(of_company(unflagged(2, 1), attacker), NOON)
        assert await billed(opened, NOON + 10) == {attacker: "1"}
        await opened.commit(of_company(unflagged(2, 1, 3), victim), NOON + 10)
        await opened.commit(of_company(unflagged(1, None, 5), victim), NOON + 10)
        assert await billed(opened, NOON + 30) == {victim: "5"}


@VICTIMS
async def test_nesting_goes_on_within_a_company(tmp_path: Path, victim: str, attacker: str) -> None:
    """With a token as without one, the inner span of a request is not billed."""
    async with companies(tmp_path) as opened:
        for account in (victim, attacker):
            await opened.commit(of_company(unflagged(2, 1, 3), account), NOON)
            await opened.commit(of_company(unflagged(1, None, 5), account), NOON)
        assert await billed(opened, NOON + 10) == {victim: "5", attacker: "5"}


@VICTIMS
@pytest.mark.parametrize("before", [True, False])
async def test_numbers_are_not_added_to_anothers_trace(
    tmp_path: Path, victim: str, attacker: str, before: bool
) -> None:
    """A request's quantity is summed over its own company's spans only, and nothing is late for it or doubtful."""
    ours = trace_batch(span(1, 90, entry=True), span(2, 1, tokens=10), request(1))
    theirs = trace_batch(span(3, 1, tokens=500), span(2, 1, tokens=900), span(5, 77, tokens=900))
    async with companies(tmp_path) as opened:
        if before:
            await opened.commit(of_company(theirs, attacker), NOW)
        await opened.commit(of_company(ours, victim), NOW)
        if not before:
            await opened.commit(of_company(theirs, attacker), NOW)
        done = await settle_traces(opened, NOW + 6)
        assert (done.billed, done.late) == (1, 0)
        await opened.commit(of_company(trace_batch(span(9, 1, tokens=900)), attacker), NOW + 7)
        assert (await settle_traces(opened, NOW + 20)).billed == 0
        assert await billed(opened, NOW + 30) == {victim: "10"}


async def test_both_have_the_same_trace(tmp_path: Path) -> None:
    """The same ids on both sides: each is billed its own sum, and `explain` tells of both."""
    async with companies(tmp_path) as opened:
        for account, tokens in ((ACME, 10), (BETA, 20), (OWN, 40)):
            both = trace_batch(span(1, 90, entry=True), span(2, 1, tokens=tokens), request(1))
            await opened.commit(of_company(both, account), NOW)
        await settle_traces(opened, NOW + 6)
        late = trace_batch(span(3, 1, tokens=5))
        await opened.commit(of_company(late, BETA), NOW + 7)
        await settle_traces(opened, NOW + 20)
        assert await billed(opened, NOW + 30) == {ACME: "10", BETA: "25", OWN: "40"}


@VICTIMS
async def test_a_request_id_is_not_anothers(tmp_path: Path, victim: str, attacker: str) -> None:
    """Two charges that carry the same request id are one request only within an account."""
    digest = bytes(range(16))
    async with companies(tmp_path) as opened:
        theirs = one(span_id(7), 100)._replace(request_id=digest)
        ours = one(span_id(8), 3)._replace(request_id=digest)
        for usage, account in ((theirs, attacker), (ours, victim), (theirs, attacker)):
            await opened.commit(of_company(batch(usage), account), NOON)
        assert await billed(opened, NOON + 10) == {victim: "3", attacker: "100"}


@VICTIMS
async def test_usage_with_a_token_is_no_former_place_of_a_policy(tmp_path: Path, victim: str, attacker: str) -> None:
    """What its policy has billed in another company's account does not count as billed already."""
    async with companies(tmp_path) as opened:
        await opened.commit(of_company(batch(one(span_id(1), 7)), attacker), NOON)
        await opened.commit(of_company(batch(one(span_id(9), 1)), victim), NOON)
        known = await opened.ledger.places([CHAT.policy])
        assert {place.account for place in known} == {victim, attacker}
        apart = await opened.ledger.token_accounts()
        opened.ledger.recognise(former([CHAT], known, NOON, apart))
        assert (await opened.ledger.commit(of_company(batch(one(span_id(1), 3)), victim), NOON)).billed == 1
        assert await billed(opened, NOON + 10) == {victim: "4", attacker: "7"}


async def test_within_a_company_the_former_place_counts(tmp_path: Path) -> None:
    """A policy whose event name changed while a client waits: the request that comes again is not billed twice."""
    renamed = replace(CHAT, event_name="other")
    async with companies(tmp_path) as opened:
        await opened.commit(of_company(batch(one(span_id(1))), ACME), NOON)
        known = await opened.ledger.places([CHAT.policy])
        opened.ledger.recognise(former([renamed], known, NOON, await opened.ledger.token_accounts()))
        again = batch(one(span_id(1))._replace(terms=renamed))
        assert (await opened.ledger.commit(of_company(again, ACME), NOON)).billed == 0
        assert (await opened.ledger.commit(of_company(again, BETA), NOON)).billed == 1
        assert former([renamed], known, NOON, {ACME}).others[filed(terms_in(renamed, ACME))] == tuple(known)


async def test_held_usage_of_a_company_stays_its_own(tmp_path: Path) -> None:
    """A mended policy releases it under its new terms in the same account, never in the operator's."""
    mended = replace(CHAT, event_name="chat_request", metadata_field="team")
    async with companies(tmp_path) as opened:
        for account in (ACME, OWN):
            unknown = record("nobody", at=NOON, quantity=3)
            await opened.commit(of_company(batch(unknown), account), NOON)
            opened.meters[account, mended.event_name] = Formula.SUM
        assert await frozen(opened, NOON + 30) == []
        assert await opened.ledger.releases.refile([mended], NOON + 60) == 2
        opened.fields = ("account_id", "team")
        change = {"team": "nobody"}
        for account in (ACME, OWN):
            await opened.ledger.apply_customers(
                account, opened.fields, [CustomerChange(f"cus_n{account}", change)], 2
            )
        events = await frozen(opened, NOON + 90)
        told = {(event.account, event.event_name, event.customer, event.value) for event in events}
        assert told == {(account, "chat_request", f"cus_n{account}", "3") for account in (ACME, OWN)}


async def test_held_usage_does_not_come_into_a_company(tmp_path: Path) -> None:
    """A policy that names a company's account from now on takes nothing there that was held elsewhere."""
    async with companies(tmp_path) as opened:
        await opened.commit(batch(record("nobody", at=NOON)), NOON)
        await opened.list_customers({})
        assert await opened.freeze(NOON + 30) == []
        assert await opened.ledger.releases.refile([replace(CHAT, account=ACME)], NOON + 60) == 0
