"""Senders who know no mercy and lose nothing: batches come at a pace, whatever became of those before.

    overload_sender.py '{"port": 4317, "phases": [[5, 20], [10, 120], [20, 20]], ...}'

Each batch is sent until it is acknowledged, by OTLP's rules: ten seconds for a call; after a retryable status a wait
of 1 s, half as long again each time, up to 30 s, give or take a fifth, and never less than the answer asks for; any
other status is an error. Prints `phase N` when one begins, `sent` when all is acknowledged, and every call as JSON.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from throughput.empty_server import EXPORT
from throughput.spans import Pool, Ticket

TIMEOUT = 10.0
_FIRST, _FACTOR, _MOST, _JITTER = 1.0, 1.5, 30.0, 0.2
_DETAILS = "grpc-status-details-bin"
_RETRYABLE = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
"""RESOURCE_EXHAUSTED only with RetryInfo. Source: OTLP specification, "Failures"."""
_RETRYABLE_HTTP = {429, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send."""

    port: int
    phases: list[tuple[float, float]]
    """(seconds, batches a second)."""
    spans: int = 512
    connections: int = 16
    users: int = 1_000
    protocol: str = "grpc"
    """Over `http`, where a connection has one request at a time, there are as many of them as it takes."""


class Answer(NamedTuple):
    """What became of a call."""

    status: str
    again: bool = False
    """Whether it may be sent again."""
    wait: float = 0.0
    """Seconds that the service asks for."""


class Sender:
    """Sends what was planned."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._pool = Pool(7, 1.0, 0.0, plan.users)
        self._chance = random.Random(7)
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{plan.port}", options=options) for _ in range(plan.connections)
        ]
        self._exports = [channel.unary_unary(EXPORT) for channel in self._channels]
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(TIMEOUT)
        )
        self._send = self._over_http if plan.protocol == "http" else self._over_grpc
        self._began = time.perf_counter()
        self.calls: list[tuple[float, float, str, int]] = []
        """Of each call: when it ended, how many seconds it took, its status, which try it was (0 is the first)."""

    async def run(self) -> dict[str, Any]:
        """All phases, and then whatever is left."""
        due = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number, (seconds, rate) in enumerate(self._plan.phases):
                _say(f"phase {number}")
                end = due + seconds
                while due < end:
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    tasks.create_task(self._deliver(self._pool.ticket(self._plan.spans)))
                    due += 1 / rate
        _say("sent")
        for channel in self._channels:
            await channel.close(None)
        await self._session.close()
        return {"calls": self.calls}

    async def _deliver(self, ticket: Ticket) -> None:
        """One batch, until it is taken."""
        tries, pause = 0, _FIRST
        while True:
            began = time.perf_counter()
            answer = await self._send(self._pool.payload(ticket))
            self._note(began, answer.status, tries)
            if answer.status == "OK":
                return
            if not answer.again:
                raise RuntimeError(answer.status)
            await asyncio.sleep(max(pause * self._chance.uniform(1 - _JITTER, 1 + _JITTER), answer.wait))
            tries, pause = tries + 1, min(pause * _FACTOR, _MOST)

    async def _over_grpc(self, payload: bytes) -> Answer:
        try:
            await self._chance.choice(self._exports)(payload, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            asked = _asked(error)
            return Answer(error.code().name, error.code() in _RETRYABLE or asked is not None, asked or 0.0)
        return Answer("OK")

    async def _over_http(self, payload: bytes) -> Answer:
        url, headers = f"http://127.0.0.1:{self._plan.port}/v1/traces", {"content-type": "application/x-protobuf"}
        try:
            async with self._session.post(url, data=payload, headers=headers) as answer:
                await answer.read()
                if answer.status == HTTPStatus.OK:
                    return Answer("OK")
                again = answer.status in _RETRYABLE_HTTP
                return Answer(str(answer.status), again, float(answer.headers.get("retry-after", 0)))
        except TimeoutError:
            return Answer("DEADLINE_EXCEEDED", again=True)
        except aiohttp.ClientConnectionError as error:
            return Answer(type(error).__name__, again=True)

    def _note(self, began: float, status: str, tries: int) -> None:
        ended = time.perf_counter()
        self.calls.append((ended - self._began, ended - began, status, tries))


def _asked(error: grpc.aio.AioRpcError) -> float | None:
    """How many seconds the server asks to wait; None if it says nothing."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Send, and tell."""
    _say(json.dumps(await Sender(Plan(**json.loads(sys.argv[1]))).run()))


if __name__ == "__main__":
    asyncio.run(main())
