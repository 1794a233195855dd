"""What `preview` says of recorded spans is what the ledger bills, over everything that a request can be at once."""

import asyncio
import shutil
import tempfile
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import book
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pruning import problems
from span_builder import LOCAL, NOW, REMOTE, engine, http, policy, span
from trace_builder import CLIENT, CONSUMER, INTERNAL, SERVER, Placed, exported

from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.preview import preview
from otel_usageflow.policy.spellings import INPUT, OUTPUT, TOTAL

SECOND = 1_000_000_000
NAMES = (INPUT, OUTPUT, TOTAL, "llm.token_count.prompt")
Bill = tuple[dict[Any, tuple[int, int]], Counter[tuple[str, str]]]
"""(policy, event name, account, user) -> requests and quantity; (policy, reason) -> requests in quarantine."""

_BILLED = """
SELECT o.policy, m.event_name, a.account, s.user, r.quantity FROM records r JOIN origins o USING (origin_id)
JOIN series s USING (series_id) JOIN meters m USING (meter_id) JOIN accounts a USING (account_id)
WHERE r.quantity IS NOT NULL
"""
_ASIDE = "SELECT policy, reason FROM quarantine JOIN origins USING (origin_id) WHERE resolved_at IS NULL"


def some_policies(random: Random) -> list[PolicyConfig]:
    """Policies that get into each other's way: of one event name, of one request, with and without ids."""

    def summing(*keys: str) -> dict[str, Any]:
        return {"from": "trace", "attributes": list(keys)}

    def ids() -> Any:
        return random.choice(["none", {"header": "x-request-id"}])

    every = [
        policy(name="tok", event_name="tokens", quantity=summing(INPUT, OUTPUT), request_id=ids()),
        policy(name="req", event_name="reqs", request_id=ids()),
        policy(
            name="out",
            event_name=random.choice(["outs", "tokens"]),
            endpoint=random.choice(["POST /chat", "POST /embed", "* /**"]),
            quantity=summing(OUTPUT),
            trace_wait=random.choice(["1s", "5s", "20s"]),
        ),
        policy(name="tot", event_name="total", endpoint="* /**", quantity=summing(TOTAL), status="any"),
        policy(
            name="calls",
            event_name=random.choice(["calls", "reqs"]),
            endpoint=["grpc *", "POST /embed"],
            request_id=ids(),
        ),
        policy(name="ql", event_name=random.choice(["ql", "reqs"]), endpoint="graphql query *"),
        policy(name="theirs", event_name="reqs", account="acct_x"),
    ]
    return random.sample(every, random.randint(1, len(every)))


def some_spans(random: Random) -> list[Placed]:
    """Up to eight spans in each of one or two traces: requests within each other, lost links, two services."""
    found: list[Placed] = []
    for trace in range(1, random.randint(1, 2) + 1):
        numbers = [0, 900 + random.randint(1, 2)]
        for first in [True] + [False] * random.randint(0, 7):
            number = len(found) + 1
            parent = random.choice(numbers)
            is_server = first or random.random() < 0.4
            one = _server(random, number, parent) if is_server else _below(random, number, parent)
            one.trace_id = bytes(15) + bytes([trace])
            one.end_time_unix_nano = NOW - random.randint(1, 30) * SECOND // 10
            found.append(Placed(one, random.choice(["shop", "shop", "models"])))
            numbers.append(number)
    return found


def _server(random: Random, number: int, parent: int) -> Span:
    attributes: dict[str, Any] = random.choice(
        [
            http(random.choice(["/chat", "/embed"]), status=random.choice([200, 200, 500])),
            http("/chat", **{"graphql.operation.type": "query", "graphql.operation.name": "Prices"}),
            {"rpc.system": "grpc", "rpc.method": "shop.Orders/Get", "rpc.grpc.status_code": random.choice([0, 5])},
        ]
    )
    where = ("http.request.header.", "rpc.request.metadata.")["rpc.system" in attributes]
    carried = {
        "x-account-id": random.choice(["acme", "acme", "bob", None]),
        "x-request-id": random.choice(["r", None]),
    }
    attributes |= {where + name: value for name, value in carried.items() if value is not None}
    attributes |= _numbers(random, number) if random.random() < 0.2 else {}
    return _span(
        attributes, number, parent, SERVER, random.choice([LOCAL, REMOTE, REMOTE, 0] if parent else [LOCAL, 0])
    )


def _below(random: Random, number: int, parent: int) -> Span:
    attributes = _numbers(random, number) if random.random() < 0.6 else {}
    return _span(attributes, number, parent, random.choice([INTERNAL, CLIENT, CONSUMER]), random.choice([LOCAL, 0]))


def _numbers(random: Random, number: int) -> dict[str, Any]:
    amounts = [number, 10 * number, 100 * number, -1]
    return {name: random.choice(amounts) for name in random.sample(NAMES, random.randint(1, 3))}


def _span(attributes: dict[str, Any], number: int, parent: int, kind: Any, flags: int) -> Span:
    return span(attributes, number=number, parent=parent or b"", kind=kind, flags=flags)


def previewed(policies: PolicyEngine, spans: list[Placed]) -> Bill:
    """What `preview` says."""
    said = preview(policies, exported(spans), NOW)
    usage = {
        (line.policy, line.event_name, line.account or "", line.user): (line.requests, int(line.quantity))
        for line in said.usage
    }
    return usage, Counter({(line.policy, line.reason): line.requests for line in said.quarantined})


async def billed(policies: PolicyEngine, batches: list[list[Placed]], directory: Path) -> Bill:
    """What the ledger bills when the spans come in these batches, and every wait is over at last."""
    async with book(directory) as open_book:
        for some in batches:
            await open_book.commit(policies.evaluate(exported(some), NOW), NOW / SECOND)
        while (await open_book.ledger.settle_traces(NOW / SECOND + 3_600)).next_due is not None:
            pass
    usage: dict[Any, tuple[int, int]] = {}
    with closing(open_for_reading(directory)) as connection:
        for *place, quantity in connection.execute(_BILLED):
            requests, total = usage.get(tuple(place), (0, 0))
            usage[tuple(place)] = requests + 1, total + int(quantity)
        aside = Counter(connection.execute(_ASIDE).fetchall())
    assert problems(directory) == []
    return usage, aside


@settings(max_examples=120)
@given(random=st.randoms(use_true_random=False))
def test_the_service_bills_what_preview_says(random: Random) -> None:
    """Whatever the policies, and however spans of traces, ids, gRPC, GraphQL and old SDKs mix, split and repeat."""
    policies, spans = engine(*some_policies(random)), some_spans(random)
    arriving = spans + random.choices(spans, k=random.randint(0, 3))
    random.shuffle(arriving)
    places = [0, *sorted(random.randint(0, len(arriving)) for _ in range(random.randint(0, 4))), len(arriving)]
    batches = [arriving[start:end] for start, end in pairwise(places) if start < end]
    directory = Path(tempfile.mkdtemp())
    try:
        assert asyncio.run(billed(policies, batches, directory / "ledger")) == previewed(policies, spans)
    finally:
        shutil.rmtree(directory)
