"""`make bench-growth`: what a batch of 512 spans costs as everything grows, one thing at a time.

    make bench-growth                              up to 20 million records and a million of the rest; half an hour
    make bench-growth ARGS="--full"                100 million records and 10 million users, too; an hour, 15 GB
    make bench-growth ARGS="--only policies users" some of the curves; their points replace those of before
    make bench-growth ARGS="--only records --sizes 1000000 100000000"
    make bench-growth ARGS="--only together --sizes 1000000 --seconds 40"
                                                   memory: 100,000 active users, a million customers and meter events
    make bench-growth ARGS="--quick"               the two smallest sizes of each, three seconds a point; not kept

For each point a ledger is built, indexed and sealed, and the service started on it as a process, which delivers to a
Stripe double. A load of the same pace for all points comes over OTLP/gRPC. CPU time and memory are those of the
whole service. Building takes some 10 us of CPU a record, and 60 bytes.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from throughput.driver import Load
from throughput.measure import measured
from throughput.process import python
from throughput.result import machine
from throughput.servers import service

from growth.all_curves import CURVES
from growth.curve import Curve
from growth.point import Point, Result, read
from growth.table import HEADS, print_point, print_table

RESULTS = Path(__file__).parent.parent / "results"
SPANS = 512
_WARM = 3.0
_TELL = 5.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=CURVES, help="curves")
    parser.add_argument("--full", action="store_true", help="the largest sizes, too")
    parser.add_argument("--sizes", type=int, nargs="+", help="these instead")
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes, and nothing is kept")
    parser.add_argument("--rate", type=float, default=10, help="batches a second (10)")
    parser.add_argument("--seconds", type=float, help="measured for each point (20, two windows; quick: 3)")
    parser.add_argument("--scratch", type=Path, help="where ledgers are built; default: a temporary directory")
    parser.add_argument(
        "--built",
        type=Path,
        metavar="DIRECTORY",
        help="of ledgers built before by `python -m growth.build CURVE SIZE DIRECTORY/CURVE-SIZE`; they are used up",
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="default: benchmarks/results/DATE-growth.json")
    arguments = parser.parse_args()
    arguments.seconds = arguments.seconds or (3 if arguments.quick else 20)
    return arguments


def _sizes(curve: Curve, arguments: argparse.Namespace) -> tuple[int, ...]:
    if arguments.sizes:
        return tuple(arguments.sizes)
    if arguments.quick:
        return curve.sizes[:2]
    return curve.sizes + (curve.full if arguments.full else ())


async def main() -> None:
    """Build, measure, print, keep."""
    arguments = _arguments()
    told = machine()
    path = arguments.save or (None if arguments.quick else RESULTS / f"{told['date']}-growth.json")
    result = read(path) if path is not None and path.exists() else Result(told, [])
    print(told)
    print("".join(f"{head:>13}" for head in HEADS))
    for name in arguments.only or CURVES:
        for size in _sizes(CURVES[name], arguments):
            with tempfile.TemporaryDirectory(dir=arguments.scratch) as directory:
                point = await measure(CURVES[name], size, Path(directory), arguments)
            print_point(point)
            result.put(point)
            if path is not None:
                result.write(path)
    print_table(result)
    print(f"\nkept in {path}" if path is not None else "\nnot kept")


async def measure(curve: Curve, size: int, directory: Path, arguments: argparse.Namespace) -> Point:
    """One point."""
    built = arguments.built and arguments.built / f"{curve.name}-{size}"
    if built and built.exists():
        built.rename(directory / "ledger")
    else:
        await _build(curve, size, directory / "ledger")
    async with service(curve.customers(size), curve.policies(size), directory) as server:
        load = Load("grpc", server.ports["grpc"], SPANS, 4, 4, arguments.seconds, _WARM, arguments.rate)
        load.users, load.pool, load.even = curve.users(size), curve.pool, curve.even
        at_start = server.watched.peak()
        found = await measured(server, load)
        _records, kept = server.disk()
    return Point(
        curve.name,
        size,
        found.cpu_per_million,
        found.p50,
        found.p99,
        max(at_start, found.peak_memory),
        server.start,
        kept,
        found.calls_per_second,
        os.getloadavg()[0],
    )


async def _build(curve: Curve, size: int, ledger: Path) -> None:
    if not size:
        return
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *python("growth.build", curve.name, str(size), str(ledger)), stdout=asyncio.subprocess.DEVNULL
    )
    telling = asyncio.create_task(_tell(f"{curve.name}, {size:,}", ledger, began))
    try:
        if await process.wait():
            sys.exit(f"the ledger of {size:,} {curve.name} could not be built")
    finally:
        telling.cancel()
    if (took := time.perf_counter() - began) > _TELL:
        print(f"\r  {curve.name}, {size:,}: built in {took:.0f} s" + " " * 20, flush=True)


def _size(ledger: Path) -> int:
    return sum(file.stat().st_size for file in ledger.glob("ledger.db*"))


async def _tell(what: str, ledger: Path, began: float) -> None:
    """Show that something happens."""
    while True:
        await asyncio.sleep(_TELL)
        kept = _size(ledger)
        passed = time.perf_counter() - began
        print(f"\r  {what}: building, {passed:.0f} s, {kept / 2**20:,.0f} MiB", end="", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
