"""The steps of the hot path, one by one: microseconds of CPU time, or instructions, for each span.

    PYTHONPATH=benchmarks:tests/support .venv/bin/python benchmarks/micro.py
    PYTHONPATH=benchmarks:tests/support .venv/bin/python benchmarks/micro.py --instructions

Instructions are counted by valgrind's callgrind (which has to be installed): what else the machine does changes them
by nothing, so that they tell a step that became slower by a few percent. Each step runs twice, with more rounds the
second time, and what the second takes more is divided by the spans of those rounds.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path

import structlog
from commit_micro import batches
from ledgers import book
from policy_micro import NOW, SPANS, batch, engine
from throughput.spans import Pool

from otel_usageflow.ledger.charge import charge_key
from otel_usageflow.model.spans import decode_request

Step = Callable[[int], Awaitable[None]]
ROUNDS = (4, 12)
"""Rounds of 512 spans under callgrind."""


async def decode(rounds: int) -> None:
    """The protobuf message, attributes left as bytes."""
    payload = batch("")
    for _ in range(rounds):
        decode_request(payload)


async def decide(rounds: int) -> None:
    """All of the policies' work: requests that are billed, of 50 users."""
    policies, payload = engine(), batch("")
    for _ in range(rounds):
        policies.evaluate(payload, NOW)


@lru_cache
def _others(requests: float) -> bytes:
    """A batch of which so much are requests, to endpoints that no policy is about."""
    return Pool(1, 0.0, requests).batch(SPANS)


async def not_matching(rounds: int) -> None:
    """The same for requests of other endpoints."""
    policies, payload = engine(), _others(1.0)
    for _ in range(rounds):
        policies.evaluate(payload, NOW)


async def no_requests(rounds: int) -> None:
    """The same for spans that are no requests."""
    policies, payload = engine(), _others(0.0)
    for _ in range(rounds):
        policies.evaluate(payload, NOW)


async def match(rounds: int) -> None:
    """Which policies a request meets, worked out anew."""
    policies = engine()
    (resource,) = decode_request(batch("")).resource_spans
    scope = resource.scope_spans[0]
    policies.evaluate(batch(""), NOW)
    scene = policies._scenes.of(b"", resource.resource.attributes, policies._origin)
    requests = [(span, policies._span_keys.find(span.attributes)) for span in scope.spans]
    for _ in range(rounds):
        for span, found in requests:
            policies._routes.decide(policies.policies, span, found, scene)


async def user(rounds: int) -> None:
    """The user of a request, read anew."""
    policies = engine()
    (policy,) = policies.policies
    (resource,) = decode_request(batch("")).resource_spans
    spans = resource.scope_spans[0].spans
    scene = policies._scenes.of(b"", resource.resource.attributes, policies._origin)
    requests = [_request(policies, span, scene) for span in spans]
    for _ in range(rounds):
        for request in requests:
            policy.user(request)


def _request(policies, span, scene):  # type: ignore[no-untyped-def]
    from otel_usageflow.policy.request import HttpRequest

    return HttpRequest(span, policies._span_keys.find(span.attributes), scene.origin, "POST", ["v1"])


async def key(rounds: int) -> None:
    """The key of a charge."""
    trace_id, span_id = os.urandom(16), os.urandom(8)
    for _ in range(rounds):
        for _ in range(SPANS):
            charge_key(1, trace_id, span_id, NOW)


async def commit(rounds: int) -> None:
    """A commit with fsync, of users drawn by Zipf from 100,000."""
    with tempfile.TemporaryDirectory() as directory:
        async with book(Path(directory)) as ledger:
            for one in _usage(rounds):
                await ledger.commit(one, time.time())


async def commit_and_freeze(rounds: int) -> None:
    """The same, and freezing what it holds; what this takes more than `commit` is freezing."""
    with tempfile.TemporaryDirectory() as directory:
        async with book(Path(directory)) as ledger:
            await ledger.list_customers({f"acct-{number:08d}": f"cus_{number}" for number in range(20_000)})
            for one in _usage(rounds):
                await ledger.commit(one, time.time())
                await ledger.freeze(time.time() + 120)


def _usage(rounds: int) -> list:  # type: ignore[type-arg]
    import random

    return batches(SPANS, rounds, random.Random(1))


STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (decode, decide, not_matching, no_requests, match, user, key, commit, commit_and_freeze)
}


def instructions(name: str, rounds: int) -> int:
    """What a run of a step takes, as callgrind counts it."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    told = subprocess.run(
        [*command, "--step", name, "--rounds", str(rounds)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", told.stderr)
    assert found is not None, told.stderr
    return int(found[1])


def cpu(name: str) -> float:
    """Microseconds for each span, the least of five."""
    best = float("inf")
    for _ in range(5):
        times = []
        for rounds in (20, 60):
            began = time.process_time()
            asyncio.run(STEPS[name](rounds))
            times.append(time.process_time() - began)
        best = min(best, (times[1] - times[0]) / 40 / SPANS * 1e6)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instructions", action="store_true", help="count, by callgrind, instead of timing")
    parser.add_argument("--step", choices=STEPS, action="append", help="only this one")
    parser.add_argument("--rounds", type=int, help="run the step so often, and print nothing")
    arguments = parser.parse_args()
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory())
    steps = arguments.step or list(STEPS)
    if arguments.rounds is not None:
        asyncio.run(STEPS[steps[0]](arguments.rounds))
        return
    for requests in (0.0, 1.0):
        _others(requests)
    for name in steps:
        if arguments.instructions:
            few, many = (instructions(name, rounds) for rounds in ROUNDS)
            print(f"{name:20}{(many - few) / (ROUNDS[1] - ROUNDS[0]) / SPANS:12,.0f} instructions a span", flush=True)
        else:
            print(f"{name:20}{cpu(name):12.2f} us of CPU time a span", flush=True)


if __name__ == "__main__":
    main()
