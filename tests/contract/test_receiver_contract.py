"""What every receiver must hold to, whatever it speaks: nothing is lost, nothing is taken twice, nothing is
acknowledged that was not taken.

A client sends numbered items and behaves as its protocol demands: it sends again what it is told to send again, and
drops what it is told to drop. The pipeline takes, refuses for now, refuses for good, or does all of it by turns.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

import grpc
import pytest
from otlp_harness import JSON, PROTOBUF, Sink, call, numbered, numbered_json, otlp, post

from otel_usageflow.component import Consumed
from otel_usageflow.errors import InvalidData, Unavailable
from otel_usageflow.receivers.otlp.receiver import OtlpReceiver

TAKEN, LATER, NEVER = "taken", "later", "never"

Send = Callable[[OtlpReceiver, int], Awaitable[str]]
"""Sends one item, and says what the receiver answered in the words of its protocol."""


async def over_grpc(receiver: OtlpReceiver, number: int) -> str:
    answer = await call(receiver, numbered(number).SerializeToString())
    if answer.code is grpc.StatusCode.OK:
        return TAKEN
    return LATER if answer.code is grpc.StatusCode.UNAVAILABLE else NEVER


def over_http(fmt: str) -> Send:
    async def send(receiver: OtlpReceiver, number: int) -> str:
        body = numbered(number).SerializeToString() if fmt == PROTOBUF else json.dumps(numbered_json(number)).encode()
        answer = await post(receiver, body, fmt)
        if answer.status == 200:
            return TAKEN
        return LATER if answer.status in (429, 502, 503, 504) else NEVER

    return send


SENDERS: dict[str, Send] = {
    "otlp gRPC": over_grpc,
    "otlp HTTP protobuf": over_http(PROTOBUF),
    "otlp HTTP JSON": over_http(JSON),
}


class Pipeline(Sink):
    """Answers in the order of a plan, then takes everything; counts what it was asked to take."""

    def __init__(self, plan: list[Consumed | Exception]) -> None:
        super().__init__(script=plan)


async def deliver(receiver: OtlpReceiver, send: Send, numbers: range) -> dict[str, set[int]]:
    """Send all items, eight at a time, until each has its final answer."""
    outcome: dict[str, set[int]] = {TAKEN: set(), NEVER: set()}
    waiting = list(numbers)

    async def one_client() -> None:
        while waiting:
            number = waiting.pop()
            while (answer := await send(receiver, number)) == LATER:
                pass
            outcome[answer].add(number)

    async with asyncio.timeout(60):
        await asyncio.gather(*(one_client() for _ in range(8)))
    return outcome


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("behaviour", ["ok", "transient", "permanent", "mixed"])
async def test_acknowledged_is_taken_once_and_refused_is_not_taken(sender: str, behaviour: str) -> None:
    """What was acknowledged was taken exactly once; what was refused for good was not taken; nothing else exists."""
    plans: dict[str, list[Consumed | Exception]] = {
        "ok": [],
        "transient": [Unavailable("busy", 0.01)] * 20 + [OSError("disk")] * 20,
        "permanent": [InvalidData("bad")] * 20,
        "mixed": [
            *[Unavailable("busy")] * 15,
            *[InvalidData("bad")] * 10,
            *[ValueError("a bug")] * 10,
            *[Consumed()] * 30,
            *[Consumed(0, "a remark")] * 5,
        ],
    }
    plan = plans[behaviour]
    random.Random(7).shuffle(plan)
    permanent = sum(isinstance(answer, InvalidData) for answer in plan)
    numbers = range(1, 61)
    pipeline = Pipeline(plan)
    async with otlp(pipeline) as receiver:
        outcome = await deliver(receiver, SENDERS[sender], numbers)
    assert sorted(pipeline.span_ids()) == sorted(outcome[TAKEN])
    assert outcome[TAKEN] | outcome[NEVER] == set(numbers)
    assert len(outcome[NEVER]) == permanent


@pytest.mark.parametrize("sender", SENDERS)
async def test_nothing_is_acknowledged_before_it_was_taken(sender: str) -> None:
    """While the pipeline has not returned, the client has no answer."""
    pipeline = Sink(gate=asyncio.Event())
    async with otlp(pipeline) as receiver:
        sending = asyncio.ensure_future(SENDERS[sender](receiver, 1))
        await asyncio.wait_for(pipeline.arrived.wait(), 10)
        assert not sending.done()
        assert pipeline.gate is not None
        pipeline.gate.set()
        assert await sending == TAKEN


@pytest.mark.parametrize("sender", SENDERS)
async def test_what_is_in_flight_at_the_end_is_finished(sender: str) -> None:
    """Leaving the receiver waits for the calls in flight, and their clients get the answer."""
    pipeline = Sink(gate=asyncio.Event())
    receiving = otlp(pipeline)
    receiver = await receiving.__aenter__()
    sending = asyncio.ensure_future(SENDERS[sender](receiver, 1))
    await asyncio.wait_for(pipeline.arrived.wait(), 10)
    leaving = asyncio.ensure_future(receiving.__aexit__(None, None, None))
    done, _ = await asyncio.wait({leaving}, timeout=0.2)
    assert not done
    assert pipeline.gate is not None
    pipeline.gate.set()
    assert await asyncio.wait_for(sending, 10) == TAKEN
    await asyncio.wait_for(leaving, 10)
    assert pipeline.span_ids() == [1]
