"""Which thread of the service spends the CPU time: the event loop, which receives and decides, or the writer.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/threads.py
    PYTHONPATH=benchmarks .venv/bin/python benchmarks/threads.py --spans 20 --seconds 4

The load is that of `make bench`: batches of 512 on 16 connections, as fast as they are answered. Prints
microseconds of CPU time for each span.
"""

import argparse
import asyncio
import dataclasses
import json

from throughput.driver import Load
from throughput.measure import in_flight
from throughput.process import python, started
from throughput.servers import service


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=512, help="in a batch (512)")
    parser.add_argument("--connections", type=int, default=16, help="(16)")
    parser.add_argument("--seconds", type=float, default=8, help="(8)")
    parser.add_argument("--billable", type=float, default=0.7, help="share of billable spans (0.7)")
    given = parser.parse_args()
    async with service(5_000) as server:
        calls = in_flight(given.spans, given.connections, 4)
        load = Load("grpc", server.ports["grpc"], given.spans, given.connections, calls, given.seconds)
        load.billable, load.elsewhere = given.billable, min(load.elsewhere, 1 - given.billable)
        async with started(python("throughput.driver", json.dumps(dataclasses.asdict(load)))) as driver:
            seen = []
            for moment in ("begin", "end"):
                while await driver.line() != moment:
                    pass
                seen.append(server.watched.threads())
            while not (line := await driver.line()).startswith("{"):
                pass
    spans = len(json.loads(line)["times"]) * given.spans
    spent = {thread: seconds - seen[0].get(thread, 0.0) for thread, seconds in seen[1].items()}
    loop = spent.pop(server.watched.process.pid)
    writer = max(spent.values())
    rest = sum(spent.values()) - writer
    print(f"{spans / given.seconds:,.0f} spans a second")
    for name, seconds in (("the event loop", loop), ("the busiest other, the writer", writer), ("all others", rest)):
        print(f"{name:30}{seconds / spans * 1e6:8.2f} us a span{seconds / given.seconds:8.2f} of a core")


if __name__ == "__main__":
    asyncio.run(main())
