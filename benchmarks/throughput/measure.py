"""One point of the measurement: a server under one load."""

import contextlib
import dataclasses
import json
from typing import Any

from throughput.driver import Load
from throughput.point import Point
from throughput.process import Watched, python, started
from throughput.servers import Server

MOST_IN_FLIGHT = 32_768
"""Spans that are under way at most: less than what the service lets wait, so that nothing measured is a refusal."""


def in_flight(spans: int, connections: int, wanted: int) -> int:
    """Calls that each connection keeps under way."""
    return max(1, min(wanted, MOST_IN_FLIGHT // (spans * connections)))


async def measured(server: Server, load: Load, drivers: int = 1) -> Point:
    """Put a load on a server, from several processes if one is too slow."""
    server.watched.forget_peak()
    records, size = server.disk()
    each = dataclasses.replace(load, connections=max(1, load.connections // drivers))
    if load.rate is not None:
        each.rate = load.rate / drivers
    loads = [dataclasses.replace(each, seed=seed) for seed in range(1, drivers + 1)]
    async with contextlib.AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(started(python("throughput.driver", json.dumps(dataclasses.asdict(one)))))
            for one in loads
        ]
        cpu = [await _cpu(server, driver, moment) for moment in ("begin", "end") for driver in running[:1]]
        busy = (cpu[1] - cpu[0]) / load.seconds
        told = [await _told(driver) for driver in running]
    times = sorted(time for one in told for time in one["times"])
    if not times:
        raise RuntimeError(f"{server.name}: no call was taken")
    spans = len(times) * load.spans / load.seconds
    more, now = server.disk()
    return Point(
        server.name,
        load.protocol,
        load.spans,
        load.connections,
        load.in_flight,
        len(times) / load.seconds,
        spans,
        *(times[min(int(len(times) * share), len(times) - 1)] for share in (0.5, 0.99, 0.999)),
        cpu_per_million=busy / spans * 1e6,
        server_busy=busy,
        driver_busy=max(one["cpu"] for one in told) / load.seconds,
        peak_memory=server.watched.peak(),
        refused=sum(one["refused"] for one in told),
        bytes_per_million=(now - size) / (more - records) * 1e6 if more - records >= 50_000 else None,
    )


async def _cpu(server: Server, driver: Watched, moment: str) -> float:
    """The CPU seconds that a server has used when a driver tells this moment."""
    while await driver.line() != moment:
        pass
    return server.watched.cpu()


async def _told(driver: Watched) -> dict[str, Any]:
    while not (line := await driver.line()).startswith("{"):
        pass
    return dict(json.loads(line))
