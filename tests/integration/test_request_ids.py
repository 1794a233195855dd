"""A header as the identity of requests: in the ledger, charges with one id are one, in whatever order they come."""

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
import traces
from billing import CHAT, batch, record
from ledgers import Book, book
from looking_back import rows
from pruning import problems, prune
from quarantine_command import nothing_is_wrong, quarantine

from otel_usageflow.extensions.sqlite_storage.reading.reader import open_reader
from otel_usageflow.ledger.explanation import ExplainedUsage
from otel_usageflow.model.outcome import Accepted
from otel_usageflow.model.usage import Reason, TraceRequest, TraceSpan, UnflaggedSpan, UsageBatch, UsageRecord

NOON = 1_700_000_000 - 1_700_000_000 % 60
LATER = NOON + 3_600.0


def identified(request: str, user: str | None = "acme", **more: Any) -> UsageRecord:
    """A record that carries this id."""
    reason = more.pop("reason", Reason.NO_USER if user is None else None)
    digest = hashlib.sha256(request.encode()).digest()[:16]
    return record(user, **{"at": NOON, "reason": reason, **more})._replace(request_id=digest)


def explain(directory: Path, one: UsageRecord) -> list[ExplainedUsage]:
    """What `explain` knows of a record's trace."""
    with open_reader(directory) as reader:
        return reader.explain_trace(one.trace_id)


async def bill(open_book: Book, now: float = LATER) -> int:
    """Send whatever is due; return the sum."""
    sent = 0
    for event in await open_book.freeze(now):
        await open_book.ledger.begin([event], now)
        await open_book.ledger.settle(event, Accepted(), now)
        sent += int(event.value)
    return sent


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("together", [True, False])
async def test_two_spans_with_one_id_are_one_charge(tmp_path: Path, order: tuple[int, int], together: bool) -> None:
    """A proxy and its application, in unrelated traces: one charge, that of the span which ended first."""
    spans = [identified("r1", quantity=2, at=NOON), identified("r1", quantity=5, at=NOON + 3)]
    one, two = (spans[index] for index in order)
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        for some in ([one, two],) if together else ([one], [two]):
            await open_book.commit(batch(*some), LATER)
        assert (await open_book.ledger.commit(batch(*spans), LATER)).duplicates == 2
        assert await bill(open_book) == 2
    nothing_is_wrong(tmp_path)


async def test_a_charge_that_was_sent_counts(tmp_path: Path) -> None:
    """An earlier span that comes after its request was sent is told apart from a new one, and not billed."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(identified("r1", quantity=5, at=NOON + 3)), LATER)
        assert await bill(open_book) == 5
        committed = await open_book.ledger.commit(batch(identified("r1", quantity=2)), LATER)
        assert (committed.billed, committed.duplicates) == (0, 1)
        assert await bill(open_book, LATER + 60) == 0


async def test_an_id_takes_nothing_from_somebody_else(tmp_path: Path) -> None:
    """Whoever sends the id of another user's request is billed for it, and so is the other."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1", "beta": "cus_2"})
        await open_book.commit(batch(identified("r1", "beta"), identified("r1", quantity=10)), LATER)
        assert await bill(open_book) == 11


async def test_other_meters_have_other_requests(tmp_path: Path) -> None:
    """One id under two event names is two charges, as two policies bill one request twice."""
    other = CHAT.__class__(policy="tokens", event_name="tokens", metadata_field="account_id")
    async with book(tmp_path) as open_book:
        open_book.meters["", "tokens"] = open_book.meters["", "api_request"]
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(identified("r1"), identified("r1", quantity=10, terms=other)), LATER)
        assert await bill(open_book) == 11


@pytest.mark.parametrize("proxy_first", [True, False])
async def test_a_proxy_without_a_user_waits_for_nobody(tmp_path: Path, proxy_first: bool) -> None:
    """The span without a user leaves quarantine, or never gets there, when one with a user carries its id."""
    proxy, app = identified("r1", None), identified("r1", at=NOON + 1)
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        for one in (proxy, app, proxy) if proxy_first else (app, proxy, app):
            await open_book.commit(batch(one), LATER)
        assert await bill(open_book) == 1
        assert [key for key in open_book.standings() if key[1] == "quarantined"] == []
    (told,) = explain(tmp_path, proxy)
    assert (told.standing, told.same_as) == ("same request", (app.trace_id.hex(), app.span_id.hex()))
    assert told.resolution == ("no_user: same request" if proxy_first else None)
    nothing_is_wrong(tmp_path)


async def test_two_spans_without_a_user_wait_as_one(tmp_path: Path) -> None:
    """One request is in quarantine, and released for a user it is billed once; later spans of it change nothing."""
    now = time.time()  # which the command believes
    spans = [identified("r1", None, at=now - 90 + n) for n in range(3)]
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(*spans[:2]), now)
        assert open_book.standings() == {("", "quarantined", "no_user"): (1, "1")}
    assert (
        quarantine(tmp_path, "release", "--reason", "no_user", "--as-user", "acme", "--because", "known", "--yes")
        == 0
    )
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(spans[2], identified("r1", at=now - 70)), now)
        assert await bill(open_book, now + 60) == 1
    nothing_is_wrong(tmp_path)


async def test_a_mended_policy_bills_either_span(tmp_path: Path) -> None:
    """Nobody was found on both; sent again under a policy that finds the user, one of them is billed, whichever."""
    for number in (0, 1):
        spans = [identified("r1", None, at=NOON + n) for n in range(2)]
        directory = tmp_path / str(number)
        async with book(directory) as open_book:
            await open_book.list_customers({"acme": "cus_1"})
            await open_book.commit(batch(*spans), LATER)
            await open_book.commit(batch(spans[number]._replace(user="acme", reason=None)), LATER)
            assert await bill(open_book) == 1
            assert [key for key in open_book.standings() if key[1] == "quarantined"] == []
        nothing_is_wrong(directory)


@pytest.mark.parametrize("bad_first", [True, False])
async def test_a_bad_quantity_gives_way_to_a_good_one(tmp_path: Path, bad_first: bool) -> None:
    """The proxy has no tokens to count, the application has: the request is billed."""
    bad = identified("r1", quantity=None, reason=Reason.BAD_QUANTITY)
    good = identified("r1", quantity=7, at=NOON + 1)
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        for one in (bad, good) if bad_first else (good, bad):
            await open_book.commit(batch(one), LATER)
        assert await bill(open_book) == 7
        assert list(open_book.standings()) == [("acme", "billed", None)]


async def test_what_was_discarded_is_decided_for_its_user(tmp_path: Path) -> None:
    """A request that somebody discarded stays so for its user, whichever span of it comes."""
    now = time.time()
    async with book(tmp_path) as open_book:
        bad = identified("r1", quantity=None, reason=Reason.BAD_QUANTITY, at=now - 90)
        await open_book.commit(batch(bad), now)
    assert quarantine(tmp_path, "discard", "--reason", "bad_quantity", "--because", "a test call", "--yes") == 0
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(identified("r1", quantity=7, at=now - 91)), now)
        assert await bill(open_book, now + 60) == 0
        await open_book.commit(batch(identified("r1", "acme2", quantity=7, at=now - 90)), now)
        assert open_book.standings()["acme2", "collecting", None] == (1, "7")


def _old_sdk(request: str, span: bytes, parent: bytes, quantity: int, at: float = NOON) -> UsageBatch:
    """A SERVER span that does not say whether its parent is local, with an id if `request` is not empty."""
    trace = (7).to_bytes(16, "big")
    one = identified(request, quantity=quantity, at=at)._replace(trace_id=trace, span_id=span)
    one = one if request else one._replace(request_id=b"")
    return UsageBatch(records=[one], unflagged=[UnflaggedSpan(trace, span, parent, "shop", one.ended_ns)])


async def test_an_inner_span_takes_its_id_with_it(tmp_path: Path) -> None:
    """A charge that stood for others and turns out to be an inner span's leaves them to be billed, once."""
    inner = _old_sdk("r1", b"inner---", b"outer---", 1)
    outer = _old_sdk("", b"outer---", b"", 100)
    twins = [identified("r1", quantity=10, at=NOON + 1), identified("r1", quantity=1_000, at=NOON + 2)]
    proxy = identified("r1", None, at=NOON + 3)
    for number, order in enumerate(([inner, batch(*twins, proxy), outer], [outer, inner, batch(proxy, *twins)])):
        directory = tmp_path / str(number)
        async with book(directory) as open_book:
            await open_book.list_customers({"acme": "cus_1"})
            for one in order:
                await open_book.commit(one, LATER)
            assert await bill(open_book) == 110
            assert list(open_book.standings()) == [("acme", "billed", None)]
        nothing_is_wrong(directory)


async def test_nobody_is_left_behind_by_an_inner_span(tmp_path: Path) -> None:
    """A span without a user that had given way to an inner span waits in quarantine, with what it carried."""
    inner, outer = _old_sdk("r1", b"inner---", b"outer---", 1), _old_sdk("", b"outer---", b"", 100)
    proxy = identified("r1", None, at=NOON + 3)._replace(seen=("http.route",))
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        for one in (batch(proxy), inner, outer):
            await open_book.commit(one, LATER)
        assert await bill(open_book) == 100
        assert open_book.standings()["", "quarantined", "no_user"] == (1, "1")
    (told,) = explain(tmp_path, proxy)
    assert (told.standing, told.seen) == ("quarantined", ("http.route",))


async def test_an_id_is_known_as_long_as_usage_is(tmp_path: Path) -> None:
    """Lines go with their records, and leave nothing behind; an id that comes after that is a new request."""
    day = 86_400
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(identified("r1"), identified("r1", at=NOON + 1), identified("r1", None)), LATER)
        assert await bill(open_book) == 1
        assert rows(tmp_path, "SELECT count(*) FROM request_ids") == [(3,)]
        await open_book.commit(batch(record("beta", at=NOON + 40 * day)), NOON + 40 * day)  # so the clock is believed
        await prune(open_book, NOON + 40 * day)
        assert rows(tmp_path, "SELECT count(*) FROM request_ids") == [(0,)]
        await open_book.commit(batch(identified("r1", at=NOON + 40 * day)), NOON + 40 * day)
        assert await bill(open_book, NOON + 40 * day + 60) == 1


async def test_only_the_digest_is_kept(tmp_path: Path) -> None:
    """The id itself is nowhere in the ledger."""
    async with book(tmp_path) as open_book:
        await open_book.commit(batch(identified("a-very-secret-id")), NOON)
    assert b"a-very-secret-id" not in (tmp_path / "ledger.db").read_bytes()


def _summed(
    number: int, request: str, user: str | None, tokens: int | None, at: int
) -> list[TraceSpan | TraceRequest]:
    """A request whose tokens are summed over its trace, with an id; without tokens its quantity is no number."""
    trace = number.to_bytes(16, "big")
    one = traces.request(1, user=user, trace=trace, ended_ns=at * 10**9)
    digest = hashlib.sha256(request.encode()).digest()[:16]
    entry = traces.span(1, 90, entry=True, trace=trace, ended_ns=at * 10**9)
    child = traces.span(2, 1, tokens=tokens, trace=trace, ended_ns=at * 10**9)
    return [entry, child, one._replace(record=one.record._replace(request_id=digest))]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_requests_that_are_summed_over_their_trace(tmp_path: Path, order: tuple[int, ...]) -> None:
    """A proxy without a user, a sidecar without tokens and the application with both are one request."""
    now = traces.NOW
    told = [
        _summed(1, "r1", None, None, now),
        _summed(2, "r1", "acme", None, now),
        _summed(3, "r1", "acme", 7, now + 1),
    ]
    async with book(tmp_path) as open_book:
        open_book.meters["", traces.TERMS.event_name] = open_book.meters["", "api_request"]
        await open_book.list_customers({"acme": "cus_1"})
        for index in order:
            await open_book.commit(traces.trace_batch(*told[index]), now + 2)
            await traces.settle_traces(open_book, now + 2 + 60 * (index == order[0]))
        await traces.settle_traces(open_book, now + 120)
        assert await bill(open_book, now + 200) == 7
        assert list(open_book.standings()) == [("acme", "billed", None)]
    nothing_is_wrong(tmp_path)


@pytest.mark.parametrize("user", ["acme", None])
async def test_late_spans_go_with_their_request(tmp_path: Path, user: str | None) -> None:
    """A span that was usage of its own, because it was late, counts no more once its request gives way to another."""
    now = traces.NOW
    first, second = _summed(1, "r1", user, 100, now), _summed(2, "r1", "acme", 7, now - 1)
    late = traces.span(3, 1, tokens=20, trace=(1).to_bytes(16, "big"), ended_ns=now * 10**9)
    async with book(tmp_path) as open_book:
        open_book.meters["", traces.TERMS.event_name] = open_book.meters["", "api_request"]
        await open_book.list_customers({"acme": "cus_1"})
        for number, some in enumerate((first, [late], second), 1):
            await open_book.commit(traces.trace_batch(*some), now + 100 * number)
            await traces.settle_traces(open_book, now + 100 * number + 60)
        assert await bill(open_book, now + 500) == 7
        assert list(open_book.standings()) == [("acme", "billed", None)]
    assert problems(tmp_path) == []
