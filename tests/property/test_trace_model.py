"""Traces in any order, split, repeated, late, across restarts: every token of a request is billed once."""

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from billing import CHAT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import Book, book
from pruning import problems
from traces import NOW, SECOND, request, settle_traces, span, span_id, trace_batch

from otel_usageflow.model.outcome import Accepted
from otel_usageflow.model.usage import TraceRequest, TraceSpan, UsageBatch
from otel_usageflow.policy.local_trace import complete
from otel_usageflow.policy.nesting import drop_inner

TERMS = replace(CHAT, quantity=None)
WAIT = 5


@dataclass
class Story:
    """A trace, and what its one user has to pay."""

    user: str
    spans: list[TraceSpan]
    requests: dict[bytes, TraceRequest]
    tokens: int = 0
    """Of the leaves that belong to its requests."""
    background: set[bytes] = field(default_factory=set)


@st.composite
def stories(draw: st.DrawFn, number: int) -> Story:
    """A trace in which agents may repeat totals, with one or two requests, perhaps with work in the background."""
    trace, user = (5_000 + number).to_bytes(16, "big"), f"user-{number}"
    old_sdk = draw(st.booleans())
    entries = draw(st.sampled_from([[1], [1], [1, 2]]))
    parents: dict[int, int | None] = {1: 90, 2: draw(st.sampled_from([1, 90])) if len(entries) == 2 else None}
    count = draw(st.integers(3, 9))
    for one in range(3, count + 1):
        parents[one] = draw(st.integers(1, one - 1))
    used: dict[int, int] = {}
    total: Counter[int] = Counter()
    ends: Counter[int] = Counter()
    for one in range(count, 0, -1):
        is_leaf = one not in parents.values()
        if is_leaf and one > 2 and draw(st.booleans()):
            used[one] = total[one] = draw(st.integers(1, 9))
        ends[one] = max(ends[one], draw(st.integers(0, 3)))
        above = parents[one]
        if above is not None and one not in entries:
            total[above] += total[one]
            ends[above] = max(ends[above], ends[one])
    spans = []
    for one in range(1, count + 1):
        repeats = one not in used and total[one] and draw(st.booleans())
        entry: bool | None = one in entries
        if entry and old_sdk:
            entry = None
        tokens = used.get(one) or (total[one] if repeats else None)
        ended = (NOW + ends[one]) * SECOND
        spans.append(span(one, parents[one], entry=entry, tokens=tokens, trace=trace, ended_ns=ended))
    requests = {
        span_id(one): request(
            one, user=user, terms=TERMS, wait=WAIT, trace=trace, ended_ns=(NOW + ends[one]) * SECOND
        )
        for one in entries
    }
    background = _below(2, parents) if len(entries) == 1 else set()
    told = Story(user, spans, requests, background={span_id(one) for one in background})
    told.tokens = sum(tokens for one, tokens in used.items() if one not in background)
    return told


def _below(top: int, parents: dict[int, int | None]) -> set[int]:
    found = {top}
    for one in sorted(parents):
        if parents[one] in found:
            found.add(one)
    return found


def _batch(story: Story, spans: list[TraceSpan]) -> UsageBatch:
    """What the policies make of these spans: a request with its span, inner ones of the same batch left out."""
    inner = {one for _, one in drop_inner(trace_batch(*spans).unflagged)}
    asked = [
        story.requests[one.span_id] for one in spans if one.span_id in story.requests and one.span_id not in inner
    ]
    return trace_batch(*spans, *asked)


class Life:
    """A ledger that is opened, closed and sent to, as the scenario says."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.now = float(NOW + 10)
        self.sent: Counter[str] = Counter()

    async def live(self, data: st.DataObject, told: list[Story], *, in_time: bool) -> None:
        """Hand everything in, some of it twice, and wait until nothing waits any more."""
        left = [(story, one) for story in told for one in story.spans]
        left += data.draw(st.lists(st.sampled_from(left), max_size=4))
        left = data.draw(st.permutations(left))
        # As long as nobody knows that it is work in the background, it belongs to the only request of its service.
        left.sort(key=lambda item: item[1].span_id not in item[0].background)
        opened = book(self.directory)
        running = await opened.__aenter__()
        await running.list_customers({story.user: f"cus_{story.user}" for story in told})
        while left:
            size = data.draw(st.integers(1, 6))
            size += sum(one.span_id in story.background for story, one in left)
            now, left = left[:size], left[size:]
            for story in told:
                spans = [one for owner, one in now if owner is story]
                if spans:
                    await running.commit(_batch(story, spans), self.now)
            step = data.draw(st.sampled_from(["", "", "restart", "settle", "back"] if in_time else STEPS))
            if step in ("restart", "back"):
                await opened.__aexit__(None, None, None)
                self.now -= 3 if step == "back" else 0
                opened = book(self.directory, window=data.draw(st.sampled_from([1, 10])))
                running = await opened.__aenter__()
            elif step == "wait":
                self.now += data.draw(st.sampled_from([1, 6, 100]))
            if step:
                await settle_traces(running, self.now)
            if step == "freeze":
                await self._send(running)
        self.now += 20
        await settle_traces(running, self.now)
        self.now += 100
        assert (await settle_traces(running, self.now)).next_due is None
        self.standings = running.standings()
        await self._send(running)
        await opened.__aexit__(None, None, None)

    async def _send(self, running: Book) -> None:
        while events := await running.freeze(self.now):
            await running.ledger.begin(events, self.now)
            for event in events:
                self.sent[event.customer] += int(event.value)
                await running.ledger.settle(event, Accepted(), self.now)


STEPS = ["", "", "restart", "settle", "wait", "wait", "freeze", "back"]
SETTINGS = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _lived(data: st.DataObject, *, in_time: bool) -> tuple[Life, list[Story]]:
    told = [data.draw(stories(number)) for number in range(data.draw(st.integers(1, 3)))]
    life = Life()
    try:
        with asyncio.Runner() as runner:
            runner.run(life.live(data, told, in_time=in_time))
        assert problems(life.directory) == []
    finally:
        shutil.rmtree(life.directory)
    return life, told


@pytest.mark.timeout(240)
@SETTINGS
@given(st.data())
def test_order_and_batches_within_the_wait_change_nothing(data: st.DataObject) -> None:
    """What comes in time is billed as if it had come at once, request by request."""
    life, told = _lived(data, in_time=True)
    for story in told:
        everything = _batch(story, story.spans)
        expected = complete(everything.trace_spans, everything.trace_requests)
        billed = [one.quantity for one in expected if one.quantity is not None]
        found = life.standings.get((story.user, "collecting", None))
        assert found == ((len(billed), str(sum(billed))) if billed else None)


@pytest.mark.timeout(240)
@SETTINGS
@given(st.data())
def test_every_token_of_a_request_is_billed_once(data: st.DataObject) -> None:
    """In its request or by itself, however late it comes, whatever was frozen; nothing is left in quarantine."""
    life, told = _lived(data, in_time=False)
    for story in told:
        assert life.sent[f"cus_{story.user}"] == story.tokens
    kept = {key: value for key, value in life.standings.items() if key[1] == "quarantined"}
    assert all(reason == "bad_quantity" and quantity == "0" for (_, _, reason), (_, quantity) in kept.items()), kept
