"""The steps of the hot path, each of which works on 512 spans a round."""

import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from commit_micro import batches
from ledgers import book
from policy_micro import NOW, SPANS, batch, engine
from throughput.spans import Pool

from otel_usageflow.ledger.charge import charge_key
from otel_usageflow.model.attributes import Wanted
from otel_usageflow.model.reader import Reader
from otel_usageflow.model.spans import decode_request
from otel_usageflow.policy.request import HttpRequest

Work = Callable[[], Awaitable[Any]]


async def nothing() -> None:
    """Before a round that needs nothing to be made ready."""


class Step(NamedTuple):
    """A step, ready."""

    work: Work
    """One round."""
    before: Work = nothing
    """Makes the next round ready, and is not measured."""


def _plain(work: Callable[[], Any]) -> Step:
    async def once() -> None:
        work()

    return Step(once)


@asynccontextmanager
async def protobuf() -> AsyncIterator[Step]:
    """The whole message by protobuf, attributes left as bytes: how the plain reader begins."""
    payload = batch("")
    yield _plain(lambda: decode_request(payload))


@asynccontextmanager
async def read() -> AsyncIterator[Step]:
    """The spans, and where their wanted attributes stand."""
    payload, policies = batch(""), engine()
    yield _plain(lambda: policies._reader.read(payload))


@asynccontextmanager
async def decide() -> AsyncIterator[Step]:
    """Reading, and all of the policies' work: requests that are billed, of 50 users."""
    payload, policies = batch(""), engine()
    yield _plain(lambda: policies.evaluate(payload, NOW))


@asynccontextmanager
async def decide_plainly() -> AsyncIterator[Step]:
    """The same with the plain reader."""
    payload, policies = batch(""), engine()
    policies._reader = Reader(Wanted(policies.span_keys), compiled=False)
    yield _plain(lambda: policies.evaluate(payload, NOW))


@asynccontextmanager
async def not_matching() -> AsyncIterator[Step]:
    """The same as `decide` for requests of other endpoints."""
    payload, policies = Pool(1, 0.0, 1.0).batch(SPANS), engine()
    yield _plain(lambda: policies.evaluate(payload, NOW))


@asynccontextmanager
async def no_requests() -> AsyncIterator[Step]:
    """The same for spans that are no requests."""
    payload, policies = Pool(1, 0.0, 0.0).batch(SPANS), engine()
    yield _plain(lambda: policies.evaluate(payload, NOW))


def _requests() -> tuple[Any, Any, list[HttpRequest]]:
    """An engine, the scene of a batch, and the requests in it."""
    policies = engine()
    ((attributes, ((scope, spans),)),) = policies._reader.read(batch(""))
    scene = policies._scenes.of(scope, attributes, policies._origin)
    return policies, scene, [HttpRequest(one, one.find(), scene.origin, "POST", ["v1"]) for one in spans]


@asynccontextmanager
async def match() -> AsyncIterator[Step]:
    """Which policies a request meets, worked out anew."""
    policies, scene, requests = _requests()
    decide = policies._routes.decide
    yield _plain(lambda: [decide(policies.policies, one.span, one.found, scene) for one in requests])


@asynccontextmanager
async def user() -> AsyncIterator[Step]:
    """The user of a request, read anew."""
    policies, _, requests = _requests()
    (policy,) = policies.policies
    yield _plain(lambda: [policy.user(one) for one in requests])


@asynccontextmanager
async def key() -> AsyncIterator[Step]:
    """The key of a charge."""
    trace_id, span_id = os.urandom(16), os.urandom(8)
    yield _plain(lambda: [charge_key(1, trace_id, span_id, NOW) for _ in range(SPANS)])


@asynccontextmanager
async def _ledger() -> AsyncIterator[tuple[Any, Work, Work]]:
    """A ledger; what makes the next 512 records, of users drawn by Zipf from 100,000; and what commits them."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        async with book(Path(directory)) as ledger:
            await ledger.list_customers({f"acct-{number:08d}": f"cus_{number}" for number in range(20_000)})
            made: list[Any] = []

            async def make() -> None:
                made.extend(batches(SPANS, 1, chance))

            async def commit() -> None:
                await ledger.commit(made.pop(), time.time())

            yield ledger, make, commit


@asynccontextmanager
async def commit() -> AsyncIterator[Step]:
    """A commit, with fsync."""
    async with _ledger() as (_, make, work):
        yield Step(work, make)


@asynccontextmanager
async def freeze() -> AsyncIterator[Step]:
    """Making meter events of a commit's windows."""
    async with _ledger() as (ledger, make, work):

        async def before() -> None:
            await make()
            await work()

        yield Step(lambda: ledger.freeze(time.time() + 120), before)


STEPS: dict[str, Callable[[], AbstractAsyncContextManager[Step]]] = {
    step.__name__: step
    for step in (
        *(protobuf, read, decide, decide_plainly, not_matching, no_requests),
        *(match, user, key, commit, freeze),
    )
}
