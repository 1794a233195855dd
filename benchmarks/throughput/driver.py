"""One load process: calls over real connections, each of which keeps some in flight. Prints `begin` and
`end` of the measured time, and then what came of it as JSON.

    driver.py '{"protocol": "grpc", "port": 4317, "spans": 512, "connections": 4, "in_flight": 4, "warm": 1, ...}'

With `rate`, calls begin at that pace and their time counts from when they should have begun, so that a server that
falls behind cannot hide it by slowing the load down.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc

from throughput.empty_server import EXPORT
from throughput.spans import POOL, Pool

Call = Callable[[bytes], Awaitable[bool]]
_RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


@dataclass(slots=True)
class Load:
    """What to do."""

    protocol: str
    port: int
    spans: int
    connections: int
    in_flight: int
    """Calls that each connection keeps under way."""
    seconds: float
    warm: float = 1.0
    """Seconds before the measured ones."""
    rate: float | None = None
    """Calls a second, over all connections; None: as fast as they are answered."""
    seed: int = 1
    billable: float = 0.7
    elsewhere: float = 0.2
    users: int = 100_000
    pool: int = POOL
    """Spans that are prebuilt; their users are all that a load ever meets."""
    even: bool = False
    """Billable spans have all users in turn, instead of by Zipf."""


@dataclass(slots=True)
class Seen:
    """What came of it, in the measured time."""

    times: list[float] = field(default_factory=list)
    refused: int = 0


class Driver:
    """Keeps the load up."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._pool = Pool(load.seed, load.billable, load.elsewhere, load.users, load.pool, even=load.even)
        self._seen = Seen()
        self._begin = time.perf_counter() + load.warm
        self._end = self._begin + load.seconds
        self._turn = 0

    async def run(self) -> dict[str, Any]:
        """Everything."""
        load = self._load
        calls = [
            _grpc_call(load.port) if load.protocol == "grpc" else _http_call(load) for _ in range(load.connections)
        ]
        cpu = asyncio.create_task(self._cpu())
        await asyncio.gather(*(self._lane(call) for call, _ in calls for _ in range(load.in_flight)))
        for _, close in calls:
            await close()
        return {"times": self._seen.times, "refused": self._seen.refused, "cpu": await cpu}

    async def _lane(self, call: Call) -> None:
        load, seen = self._load, self._seen
        while True:
            due = time.perf_counter()
            if load.rate is not None:
                due = max(self._begin - load.warm, 0) + self._turn / load.rate
                self._turn += 1
                await asyncio.sleep(max(due - time.perf_counter(), 0))
            payload = self._pool.batch(load.spans)
            began = due if load.rate is not None else time.perf_counter()
            if began >= self._end:
                return
            taken = await call(payload)
            ended = time.perf_counter()
            if self._begin <= ended < self._end:
                if taken:
                    seen.times.append(ended - began)
                else:
                    seen.refused += 1
            if not taken:
                await asyncio.sleep(0.05)

    async def _cpu(self) -> float:
        """CPU seconds of this process in the measured time, whose begin and end it tells."""
        await asyncio.sleep(self._begin - time.perf_counter())
        began = time.process_time()
        _say("begin")
        await asyncio.sleep(self._end - time.perf_counter())
        used = time.process_time() - began
        _say("end")
        return used


def _grpc_call(port: int) -> tuple[Call, Callable[[], Awaitable[None]]]:
    # A pool of subchannels of its own: otherwise all channels of a process share one connection.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", 64 * 1024 * 1024)]
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
    method = channel.unary_unary(EXPORT)

    async def call(payload: bytes) -> bool:
        try:
            await method(payload)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _RETRYABLE:
                raise
            return False
        return True

    return call, lambda: channel.close(None)


def _http_call(load: Load) -> tuple[Call, Callable[[], Awaitable[None]]]:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
    url, headers = f"http://127.0.0.1:{load.port}/v1/traces", {"content-type": "application/x-protobuf"}

    async def call(payload: bytes) -> bool:
        async with session.post(url, data=payload, headers=headers) as answer:
            await answer.read()
            if answer.status not in (200, 429, 503):
                raise RuntimeError(f"status {answer.status}")
            return answer.status == 200

    return call, session.close


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Run, and print."""
    _say(json.dumps(await Driver(Load(**json.loads(sys.argv[1]))).run()))


if __name__ == "__main__":
    asyncio.run(main())
