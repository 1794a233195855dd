"""Sends the planned requests to the sample API, and counts them."""

import asyncio
from collections.abc import Iterator

import aiohttp

from otel_usageflow.demo.plan import Planned, plan
from otel_usageflow.demo.tally import Tally

RATE = 40.0
"""Requests a second."""
_PATIENCE = aiohttp.ClientTimeout(total=20)
_IN_FLIGHT = 16


async def send(url: str, tally: Tally, stopping: asyncio.Event) -> None:
    """Send requests to the API at `url` until `stopping` is set; returns when all are answered."""
    clock = asyncio.get_running_loop()
    began = clock.time()
    room = asyncio.Semaphore(_IN_FLIGHT)
    async with aiohttp.ClientSession(timeout=_PATIENCE) as http, asyncio.TaskGroup() as requests:
        for number, request in enumerate(_until(stopping)):
            await room.acquire()
            requests.create_task(_one(http, url, request, tally, room))
            await _sleep(began + (number + 1) / RATE - clock.time(), stopping)


def _until(stopping: asyncio.Event) -> Iterator[Planned]:
    for request in plan():
        if stopping.is_set():
            return
        yield request


async def _one(
    http: aiohttp.ClientSession, url: str, request: Planned, tally: Tally, room: asyncio.Semaphore
) -> None:
    try:
        async with http.request(
            request.method, url + request.path, headers=request.headers, json=request.json
        ) as answer:
            await answer.read()
            tally.add(request, answer.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        tally.surprises.append(f"{request.method} {request.path} had no answer: {type(error).__name__} {error}")
    finally:
        room.release()


async def _sleep(seconds: float, stopping: asyncio.Event) -> None:
    """Sleep, but not beyond `stopping`."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await stopping.wait()
    except TimeoutError:
        return
