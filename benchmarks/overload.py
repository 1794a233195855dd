"""More than the service can take: does it say so, stay small, lose nothing, and come back by itself?

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/overload.py
    PYTHONPATH=benchmarks .venv/bin/python benchmarks/overload.py --times 5 --flood 20
    PYTHONPATH=benchmarks .venv/bin/python benchmarks/overload.py --streams 4
    PYTHONPATH=benchmarks .venv/bin/python benchmarks/overload.py --protocol http

First the service is measured: what it takes of batches of 512, all billable, as fast as it answers. Then batches
come at a pace of their own: half of that, three times that, and half again, each from a sender that retries as OTLP
says until it is acknowledged. In the end the ledger, the double and the senders have to agree on every span. All of
it takes some two minutes, most of them for what clients still hold back: they wait up to 30 seconds before a try.
"""

import argparse
import asyncio
import json
import time
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from accepted import accepted, opened, sent
from throughput.driver import Load
from throughput.measure import measured
from throughput.process import Watched, python, started
from throughput.result import machine
from throughput.servers import Sending, Server, service

USERS = 1_000
_SPANS = 512
_PHASES = ("half of it", "overload", "half of it again", "and then")


class Memory:
    """Looks at what is resident, twice a second."""

    def __init__(self, watched: Watched) -> None:
        self._status = Path("/proc") / str(watched.process.pid) / "status"
        self.seen: list[tuple[float, int]] = []
        """(by the clock, bytes)."""

    async def look(self) -> None:
        """Until cancelled."""
        while True:
            kilobytes = next(
                int(line.split()[1]) for line in self._status.read_text().splitlines() if line.startswith("VmRSS")
            )
            self.seen.append((time.perf_counter(), kilobytes * 1024))
            await asyncio.sleep(0.5)

    def most(self, begin: float, end: float) -> int:
        """MiB at most in between."""
        return max((size for at, size in self.seen if begin <= at <= end), default=0) // 2**20


async def flood(
    server: Server, phases: list[tuple[float, float]], protocol: str
) -> tuple[list[list[Any]], list[float], Memory]:
    """(calls, when each phase began and when all was acknowledged, memory)."""
    memory = Memory(server.watched)
    looking = asyncio.create_task(memory.look())
    plan = {
        "port": server.ports[protocol],
        "protocol": protocol,
        "phases": phases,
        "spans": _SPANS,
        "users": USERS,
    }
    moments: list[float] = []
    async with started(python("overload_sender", json.dumps(plan))) as sender:
        while not (line := await sender.line()).startswith("{"):
            moments.append(time.perf_counter())
    looking.cancel()
    return json.loads(line)["calls"], moments, memory


def shown(calls: list[list[Any]], begin: float, end: float, mebibytes: int) -> list[str]:
    """A line of the table: the calls that ended in a phase."""
    ended = [call for call in calls if begin <= call[0] < end]
    taken = sorted(call[1] for call in ended if call[2] == "OK")
    refused = sorted(call[1] for call in ended if call[2] not in ("OK", "DEADLINE_EXCEEDED"))
    late = sum(call[2] == "DEADLINE_EXCEEDED" for call in ended)
    retried = sum(call[3] > 0 for call in ended)
    seconds = max(end - begin, 1e-9)
    return [
        f"{seconds:.0f}",
        f"{len(taken):,}",
        f"{_SPANS * len(taken) / seconds:,.0f}",
        f"{len(refused):,}",
        f"{late:,}",
        f"{retried:,}",
        *(f"{1e3 * _at(taken, share):.0f}" if taken else "-" for share in (0.5, 0.99)),
        f"{1e3 * _at(refused, 0.99):.0f}" if refused else "-",
        f"{mebibytes}",
    ]


def _at(times: list[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)]


def _records(ledger: Path) -> int:
    with opened(ledger) as connection:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])


def _billed(url: str) -> int:
    return int(sum(Decimal(one["value"]) for one in accepted(url)))


async def measure(server: Server, arguments: argparse.Namespace) -> bool:
    """Everything; whether all of it was conserved."""
    assert server.ledger is not None
    load = Load("grpc", server.ports["grpc"], _SPANS, 4, 4, 5, billable=1.0, elsewhere=0.0, users=USERS)
    capacity = (await measured(server, load)).calls_per_second
    print(f"takes {capacity:.0f} batches of {_SPANS} a second, {_SPANS * capacity:,.0f} spans\n")
    before = _records(server.ledger)
    calm, times = capacity / 2, arguments.times * capacity
    phases = [(arguments.calm, calm), (arguments.flood, times), (arguments.after, calm)]
    calls, moments, memory = await flood(server, phases, arguments.protocol)
    print("| | s | taken | spans/s | refused | timed out | retries | taken p50 ms | p99 ms | refused p99 ms | MiB |")
    print("| --- |" + " ---: |" * 10)
    zero = moments[0]
    for name, (begin, end) in zip(_PHASES, pairwise(moments), strict=False):
        cells = shown(calls, begin - zero, end - zero, memory.most(begin, end))
        print(f"| {name} | " + " | ".join(cells) + " |")
    if moments[2] - moments[1] > 1.1 * arguments.flood:
        print("\nthe sender could not keep the pace: it had as little of the machine as the service")
    _recovery(calls, moments[2] - zero, moments[3] - zero)
    return await _conserved(server, calls, before)


def _recovery(calls: list[list[Any]], over: float, done: float) -> None:
    """When it was itself again, counted from the end of the overload."""
    refusals = [call[0] for call in calls if call[2] != "OK"]
    last = max(refusals, default=0.0)
    fresh = [call[0] for call in calls if call[3] == 0 and call[0] > over and (call[2] != "OK" or call[1] > 1)]
    print(f"\nthe last refusal or time-out {max(last - over, 0):.1f} s after the overload's end")
    print(f"the last new batch that was not taken within a second: {max([0.0, *(at - over for at in fresh)]):.1f} s")
    print(f"all acknowledged, what had been refused too: {done - over:.1f} s, with the load that went on")


async def _conserved(server: Server, calls: list[list[Any]], before: int) -> bool:
    assert server.ledger is not None
    made = sum(call[2] == "OK" for call in calls) * _SPANS
    whole = await sent(server.ledger, 120)
    kept, billed = _records(server.ledger), await asyncio.to_thread(_billed, server.stripe)
    print(
        f"\nacknowledged {made:,} spans, in the ledger {kept - before:,}; all in all {kept:,}, at Stripe {billed:,}"
    )
    conserved = whole and kept - before == made and billed == kept
    print("conserved" if conserved else "NOT CONSERVED")
    return conserved


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=float, default=3, help="of what it takes (3)")
    parser.add_argument("--calm", type=float, default=5, help="seconds before (5)")
    parser.add_argument("--flood", type=float, default=10, help="seconds of overload (10)")
    parser.add_argument("--after", type=float, default=20, help="seconds of half the load afterwards, at least (20)")
    parser.add_argument("--protocol", choices=("grpc", "http"), default="grpc")
    parser.add_argument("--streams", type=int, help="max_concurrent_streams of the receiver, for each connection")
    arguments = parser.parse_args()
    print(machine())
    grpc = {} if arguments.streams is None else {"max_concurrent_streams": arguments.streams}
    async with service(USERS, sending=Sending(calls=850), grpc=grpc) as server:
        if not await measure(server, arguments):
            raise SystemExit(1)


if __name__ == "__main__":
    asyncio.run(main())
