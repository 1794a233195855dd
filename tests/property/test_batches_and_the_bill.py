"""How spans come never changes a bill: in any order, split or merged anyhow, again and again, across a restart.

Through the policies and a real ledger on SQLite, with nested SERVER spans of SDKs that do not flag their parent, with
ids that make several spans one request, and with quantities from other spans of the trace.
"""

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ledgers import book
from span_builder import NOW, engine, http, payload, policy, span

HEADER, ID = "http.request.header.x-account-id", "http.request.header.x-request-id"
SECOND = 1_000_000_000
UNKNOWN, LOCAL, REMOTE = 0, 0x100, 0x300
"""Flags: of an SDK that says nothing of the parent, and of those that do."""

POLICIES = engine(
    policy(name="chat", quantity={"attribute": "tokens"}),
    policy(name="all", endpoint="* /**", event_name="calls", status="any"),
    policy(name="rest", endpoint="* /**"),
    policy(name="once", endpoint="* /**", event_name="once", request_id={"header": "x-request-id"}),
    policy(name="sum", endpoint="* /**", event_name="sum", quantity={"from": "trace", "attributes": ["tokens"]}),
)
INTERNAL, SERVER = 1, 2


class Made(NamedTuple):
    """A span."""

    number: int
    parent: int
    """0 for none."""
    flags: int
    service: str
    user: str | None
    path: str
    tokens: Any
    status: int
    ago: int
    """Seconds before now at which it ended."""
    id: str | None = None
    """Of the request."""
    kind: int = SERVER

    def payload(self) -> bytes:
        """As an export request of its own; several of them one after the other are one."""
        attributes = http(self.path, status=self.status, tokens=self.tokens)
        attributes |= {} if self.user is None else {HEADER: [self.user]}
        attributes |= {} if self.id is None else {ID: self.id}
        if self.kind == INTERNAL:
            attributes = {"tokens": self.tokens}
        end = NOW - self.ago * SECOND
        return payload(
            span(
                attributes, number=self.number, parent=self.parent or b"", flags=self.flags, end=end, kind=self.kind
            ),
            service=self.service,
        )


@st.composite
def traffic(draw: st.DrawFn) -> list[Made]:
    """Up to eight spans of one trace, many of them inside each other."""
    numbers = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8, unique=True))
    return [
        Made(
            number,
            draw(st.sampled_from([0, 0, *numbers, 99])),
            draw(st.sampled_from([UNKNOWN, UNKNOWN, UNKNOWN, LOCAL, REMOTE])),
            draw(st.sampled_from(["shop", "shop", "proxy"])),
            draw(st.sampled_from(["acme", "acme", "zoe", None, "-"])),
            draw(st.sampled_from(["/chat", "/chat", "/other"])),
            draw(st.sampled_from([1, 5, "2.5", 0.1, "many", -1])),
            draw(st.sampled_from([200, 200, 404])),
            draw(st.sampled_from([1, 2, 59, 61, 3600])),
            draw(st.sampled_from([None, None, "r1", "r2"])),
            draw(st.sampled_from([SERVER, SERVER, SERVER, INTERNAL])),
        )
        for number in numbers
    ]


@st.composite
def arrivals(draw: st.DrawFn, spans: list[Made]) -> list[list[Made]]:
    """The same spans in another order, in other batches, some of them several times."""
    again = draw(st.lists(st.sampled_from(spans), max_size=4))
    order = draw(st.permutations([*spans, *again]))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    batches = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return [batch for batch in batches if batch]


async def bill(batches: list[list[Made]], *, restart: bool = False) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What a fresh ledger holds in the end: (event, user, standing, reason) -> requests, and -> quantity."""
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            kept = await stack.enter_async_context(book(Path(directory)))
            for index, batch in enumerate(batches):
                if restart and index:
                    await stack.aclose()
                    kept = await stack.enter_async_context(book(Path(directory)))
                data = b"".join(one.payload() for one in batch)
                await kept.commit(POLICIES.evaluate(data, NOW), NOW / SECOND)
            await kept.ledger.settle_traces(NOW / SECOND + 60)
            lines = kept.usage()
    requests: Counter[Any] = Counter()
    quantity: dict[Any, Any] = {}
    for line in lines:
        if line.standing not in {"nested", "same request"}:  # counted for nothing
            key = (line.event_name, line.user, line.standing, line.reason)
            requests[key] += line.requests
            quantity[key] = quantity.get(key, 0) + line.quantity
    return dict(requests), quantity


def expected(spans: list[Made]) -> Counter[str]:
    """Requests under each event name: a span is an inner one if its parent is a SERVER span of its own service.

    Only spans are asked whose SDK does not say so; a span that names itself as its parent has none.
    """
    servers = [one for one in spans if one.kind == SERVER]
    unknown = {one.number: one for one in servers if one.flags == UNKNOWN}
    found: Counter[str] = Counter()
    for one in servers:
        if one.flags == LOCAL and one.parent not in (0, one.number):
            continue
        outer = unknown.get(one.parent)
        if one.flags == UNKNOWN and outer is not None and outer is not one and outer.service == one.service:
            continue
        found["calls"] += 1
        found["api_request"] += one.status == 200
    return +found


SITUATIONS = traffic().flatmap(lambda spans: st.tuples(st.just(spans), arrivals(spans)))
_outer = Made(1, 0, UNKNOWN, "shop", "acme", "/chat", 5, 200, 1)
_inner = _outer._replace(number=2, parent=1, user="zoe", tokens=1, ago=2)
_innermost = _outer._replace(number=3, parent=2, user=None, tokens="many", ago=61)
_own_parent = _outer._replace(parent=1)


@given(SITUATIONS, st.booleans())
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@example(([_outer, _inner, _innermost], [[_innermost], [_inner], [_innermost], [_outer], [_inner]]), True)
@example(([_outer, _inner, _innermost], [[_inner, _inner], [_innermost, _outer]]), False)
@example(([_own_parent], [[_own_parent], [_own_parent]]), False)
def test_how_spans_come_changes_no_bill(situation: tuple[list[Made], list[list[Made]]], restart: bool) -> None:
    """Users, reasons, requests and exact quantities are those of one batch that holds every span once."""
    spans, batches = situation
    whole = asyncio.run(bill([spans]))
    assert asyncio.run(bill(batches, restart=restart)) == whole
    requests: Counter[str] = Counter()
    for (event_name, *_), number in whole[0].items():
        requests[event_name] += number
    assert {name: requests[name] for name in ("calls", "api_request") if requests[name]} == expected(spans)
