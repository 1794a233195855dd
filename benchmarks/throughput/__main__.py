"""`make bench`: the real service under real load, beside an empty gRPC server and Rotel, in one run.

    make bench                          everything, some 15 minutes; the result goes to benchmarks/results/
    make bench ARGS=--quick             a look: a few points of two seconds, nothing is kept
    make bench-compare A=OLD B=NEW      two results side by side

The service runs as a process with its ledger on the disk, fsync at every commit, and delivers to a Stripe double. The
load comes from another process. Nothing of one is in the other, but they share the machine's cores.
"""

import argparse
import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path

from throughput.driver import Load
from throughput.measure import in_flight, measured
from throughput.point import Point
from throughput.result import Result, machine
from throughput.servers import Server, empty, rotel, rotel_agent, service
from throughput.table import print_point, print_summary, print_table

RESULTS = Path(__file__).parent.parent / "results"
SIZES = (1, 20, 100, 512, 2_048)
CONNECTIONS = (1, 4, 16)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few points, and nothing is kept")
    parser.add_argument("--seconds", type=float, help="measured for each point (8; quick: 2)")
    parser.add_argument("--sizes", type=int, nargs="+", help=f"spans in a batch {SIZES}")
    parser.add_argument("--connections", type=int, nargs="+", help=f"{CONNECTIONS}")
    parser.add_argument("--in-flight", type=int, default=4, help="calls under way on each connection (4)")
    parser.add_argument("--drivers", type=int, default=1, help="load processes (1)")
    parser.add_argument("--users", type=int, default=100_000, help="(100000)")
    parser.add_argument(
        "--customers", type=int, default=5_000, help="users who are customers, the busiest first (5000); others wait"
    )
    parser.add_argument("--policies", type=int, default=1, help="(1)")
    parser.add_argument(
        "--only", nargs="+", choices=("service", "http", "mix", "half", "empty", "rotel"), help="parts"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="default: benchmarks/results/DATE.json")
    arguments = parser.parse_args()
    quick = arguments.quick
    arguments.seconds = arguments.seconds or (2 if quick else 8)
    arguments.sizes = arguments.sizes or ((20, 512) if quick else SIZES)
    arguments.connections = arguments.connections or ((16,) if quick else CONNECTIONS)
    arguments.only = arguments.only or (
        ("service", "empty") if quick else ("service", "http", "mix", "half", "empty", "rotel")
    )
    arguments.users = min(arguments.users, 2_000) if quick else arguments.users
    return arguments


async def _points(arguments: argparse.Namespace) -> AsyncIterator[Point]:
    parts = arguments.only
    if any(part in parts for part in ("service", "http", "mix", "half")):
        async with service(min(arguments.users, arguments.customers), arguments.policies) as server:
            fastest = 0.0
            if "service" in parts:
                async for point in _grid(server, "grpc", arguments):
                    fastest = max(fastest, point.calls_per_second if point.spans == 512 else 0)
                    yield point
            if "http" in parts:
                async for point in _grid(server, "http", arguments):
                    yield point
            if "mix" in parts:
                for billable, elsewhere, name in ((1.0, 0.0, "billable"), (0.0, 1.0, "not matching")):
                    load = _load(server, "grpc", 512, 4, arguments)
                    load.billable, load.elsewhere = billable, elsewhere
                    yield dataclasses.replace(await measured(server, load, arguments.drivers), server=name)
            if "half" in parts and fastest:
                load = _load(server, "grpc", 512, 4, arguments)
                load.rate, load.in_flight = fastest / 2, 16
                yield dataclasses.replace(
                    await measured(server, load, arguments.drivers), server="half of the maximum"
                )
    if "empty" in parts:
        async with empty() as server:
            async for point in _grid(server, "grpc", arguments):
                yield point
    if "rotel" in parts:
        agent = rotel_agent()
        if agent is None:
            print("Rotel is left out: there is no package of it for this platform in .venv-bench")
        else:
            async with rotel(agent) as server:
                async for point in _grid(server, "grpc", arguments):
                    yield point


async def _grid(server: Server, protocol: str, arguments: argparse.Namespace) -> AsyncIterator[Point]:
    for spans in arguments.sizes:
        for connections in arguments.connections:
            load = _load(server, protocol, spans, connections, arguments)
            yield await measured(server, load, arguments.drivers)


def _load(server: Server, protocol: str, spans: int, connections: int, arguments: argparse.Namespace) -> Load:
    wanted = arguments.in_flight if protocol == "grpc" else 1  # HTTP/1.1 has one call a connection
    return Load(
        protocol,
        server.ports[protocol],
        spans,
        connections,
        in_flight(spans, connections, wanted),
        arguments.seconds,
        users=arguments.users,
    )


async def main() -> None:
    """Measure, print, keep."""
    arguments = _arguments()
    result = Result(machine(), [])
    print(result.machine)
    path = arguments.save or (None if arguments.quick else RESULTS / f"{result.machine['date']}.json")
    async for point in _points(arguments):
        result.points.append(point)
        print_point(point)
        if path is not None:
            _keep(result, path)
    print_table(result)
    print_summary(result)
    print(f"\nkept in {path}" if path is not None else "\nnot kept")


def _keep(result: Result, path: Path) -> None:
    """Write what there is so far."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result.document(), indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
