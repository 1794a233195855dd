"""Request ids whatever the order: the same spans cost the same however they come, and no request is billed twice."""

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from billing import CHAT, batch, record
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ledgers import Book, book
from quarantine_command import nothing_is_wrong

from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.model.outcome import Accepted
from otel_usageflow.model.same_request import Candidate, give_way
from otel_usageflow.model.usage import Reason, UnflaggedSpan, UsageBatch, UsageRecord

NOON = 1_700_000_000 - 1_700_000_000 % 60
USERS = ("acme", "beta")
# Request, user, seconds after noon, quantity: each charge is a span of its own.
SPANS = st.tuples(
    st.sampled_from("rst"), st.sampled_from([*USERS, None]), st.integers(0, 90), st.sampled_from([1, 20, 300, None])
)


def charge(number: int, request: str, user: str | None, at: int, quantity: int | None) -> UsageRecord:
    """The record of a span."""
    reason = Reason.NO_USER if user is None else Reason.BAD_QUANTITY if quantity is None else None
    one = record(user, at=NOON + at, quantity=quantity, reason=reason, number=number)
    return one._replace(request_id=request.encode().rjust(16))


def bill_of(records: Sequence[UsageRecord]) -> tuple[dict[str, int], Counter[str]]:
    """What these must cost, by user, and what must be in quarantine, by reason: decided about all at once."""
    candidates: dict[bytes, dict[int, Candidate]] = {}
    for place, one in enumerate(records):
        order = one.at_ns, one.trace_id + one.span_id
        group = candidates.setdefault(one.request_id, {})
        group[place] = Candidate(order, one.user or "", billable=one.reason is None)
    gone = {place for group in candidates.values() for place in give_way(group)}
    billed: Counter[str] = Counter()
    aside: Counter[str] = Counter()
    for one in (one for place, one in enumerate(records) if place not in gone):
        if one.reason is None:
            billed[one.user or ""] += int(one.quantity or 0)
        else:
            aside[str(one.reason)] += 1
    return dict(billed), aside


def live(work: Callable[[Book], Coroutine[Any, Any, None]]) -> None:
    """Do something with a new ledger, and look whether it is right."""
    directory = Path(tempfile.mkdtemp()) / "ledger"

    async def run() -> None:
        async with book(directory) as open_book:
            open_book.meters["", "other"] = Formula.SUM
            await open_book.list_customers({user: f"cus_{user}" for user in USERS})
            await work(open_book)

    try:
        asyncio.run(run())
        nothing_is_wrong(directory)
    finally:
        shutil.rmtree(directory.parent)


async def send(open_book: Book, now: float) -> Counter[str]:
    """Send what is due; return the sums by customer."""
    sums: Counter[str] = Counter()
    for _ in range(4):  # minute by minute
        for event in await open_book.freeze(now):
            await open_book.ledger.begin([event], now)
            await open_book.ledger.settle(event, Accepted(), now)
            sums[event.customer.removeprefix("cus_")] += int(event.value)
    return sums


@settings(max_examples=150)
@given(spans=st.lists(SPANS, min_size=1, max_size=10), data=st.data())
def test_order_and_batches_do_not_change_the_bill(spans: list[tuple[Any, ...]], data: st.DataObject) -> None:
    """Shuffled, split and repeated, the same spans cost what they cost when they are decided about all at once."""
    records = [charge(number, *one) for number, one in enumerate(spans, 1)]
    arriving = data.draw(st.permutations(records + data.draw(st.lists(st.sampled_from(records), max_size=4))))
    cuts = data.draw(st.lists(st.integers(0, len(arriving)), max_size=4))
    places = [0, *sorted(cuts), len(arriving)]
    expected, aside = bill_of(records)

    async def work(open_book: Book) -> None:
        for start, end in itertools.pairwise(places):
            await open_book.commit(batch(*arriving[start:end]), NOON + 200)
        held = {(key[2], n) for key, (n, _) in open_book.standings().items() if key[1] == "quarantined"}
        by_reason: Counter[str] = Counter()
        for (_, standing, reason), (requests, _) in open_book.standings().items():
            if standing == "quarantined":
                by_reason[str(reason)] += requests
        assert (by_reason, bool(held)) == (aside, bool(aside))
        assert dict(await send(open_book, NOON + 300)) == {user: sum_ for user, sum_ in expected.items() if sum_}

    live(work)


@settings(max_examples=150)
@given(
    spans=st.lists(SPANS, min_size=1, max_size=8),
    steps=st.lists(
        st.tuples(st.sampled_from(["commit", "commit", "send", "refile"]), st.integers(0, 20)), max_size=20
    ),
)
@example(spans=[("r", "acme", 0, 1), ("r", "acme", 0, 1)], steps=[("commit", 1), ("refile", 0), ("refile", 0)])
def test_a_request_is_billed_once_whatever_happens(
    spans: list[tuple[Any, ...]], steps: list[tuple[str, int]]
) -> None:
    """With sending and refiling in between: each user of each request is billed once, by some span of it."""
    # Each pair of request and user has a power of ten, so that a sum shows who is in it, and how often.
    pairs = sorted({(request, user) for request, user, _, _ in spans if user})
    records = [
        charge(number, request, user, at, quantity and (10 ** pairs.index((request, user)) if user else 1))
        for number, (request, user, at, quantity) in enumerate(spans, 1)
    ]
    billable = {(one.request_id, one.user): int(one.quantity or 0) for one in records if one.reason is None}

    async def work(open_book: Book) -> None:
        counted: Counter[str] = Counter()
        terms, now = CHAT, NOON + 200.0

        async def commit(number: int) -> None:
            one = records[number % len(records)]
            other = CHAT.event_name if terms is not CHAT else "other"
            # What was sent under other terms is another charge under these: that is promised to nobody.
            if not (one.quantity and one.user and counted[other] // int(one.quantity) % 10):
                await open_book.commit(batch(one._replace(terms=terms)), now)

        async def bill() -> None:
            counted[terms.event_name] += sum((await send(open_book, now)).values())

        for step, number in [*steps, *(("commit", n) for n in range(len(records))), ("send", 0), ("send", 0)]:
            if step == "commit":
                await commit(number)
                continue
            now += 60
            if step == "send":
                await bill()
                continue
            # What was held for want of a meter goes to the other event name, as the policy does that is mended.
            open_book.meters["", terms.event_name] = Reason.NO_METER
            await bill()
            open_book.meters["", terms.event_name] = Formula.SUM
            terms = replace(CHAT, event_name="other") if terms is CHAT else CHAT
            await commit(number)
            await open_book.ledger.releases.refile([terms], now)
            assert all(digit in "01" for digit in str(counted.total())), "billed twice"
        assert counted.total() == sum(billable.values())

    live(work)


@settings(max_examples=80)
@given(spans=st.lists(SPANS, min_size=1, max_size=6), inner=st.sets(st.integers(0, 5), max_size=3), data=st.data())
def test_inner_spans_of_old_sdks(spans: list[tuple[Any, ...]], inner: set[int], data: st.DataObject) -> None:
    """Some of the spans turn out to be inner ones, sooner or later: the others cost what they cost without them."""
    records = [charge(number, *one) for number, one in enumerate(spans, 1)]
    hidden = [records[place] for place in sorted(inner) if place < len(records)]
    outer = [UnflaggedSpan(one.trace_id, b"outer---", b"", "shop", one.ended_ns) for one in hidden]
    told = [UnflaggedSpan(one.trace_id, one.span_id, b"outer---", "shop", one.ended_ns) for one in hidden]
    batches = [UsageBatch(unflagged=[one]) for one in outer]
    for one in records:
        batches.append(UsageBatch(records=[one], unflagged=[t for t in told if t.span_id == one.span_id]))
    expected, aside = bill_of([one for one in records if one not in hidden])

    async def work(open_book: Book) -> None:
        for one in data.draw(st.permutations(batches)):
            await open_book.commit(one, NOON + 200)
        by_reason: Counter[str] = Counter()
        for (_, standing, reason), (requests, _) in open_book.standings().items():
            if standing == "quarantined":
                by_reason[str(reason)] += requests
        assert by_reason == aside
        assert dict(await send(open_book, NOON + 300)) == {user: sum_ for user, sum_ in expected.items() if sum_}

    live(work)
