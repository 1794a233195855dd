"""How long usage takes to Stripe: from the end of a span until the double has accepted the meter event with it.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/latency.py
    PYTHONPATH=benchmarks .venv/bin/python benchmarks/latency.py --windows 10s --loads light
    PYTHONPATH=benchmarks .venv/bin/python benchmarks/latency.py --api v2_stream

For windows of 0, 1 and 10 seconds, under light load (20 spans a second, one by one) and heavy load (half of the spans
a second that the service takes here, in batches of 512). A thousand customers by Zipf, every span billable. At most
850 meter events a second are sent over v1, as with a live key, and 8,500 over the stream. Which span is in which
meter event is what the ledger says; the moments of spans of the first seconds do not count.
"""

import argparse
import asyncio
import math

from accepted import accepted, opened, sent
from throughput.driver import Load
from throughput.measure import measured
from throughput.result import machine
from throughput.servers import Sending, Server, service

USERS = 1_000
LIGHT = 20.0
CALLS = {"v1": 850, "v2_stream": 8_500}
_WARM = 3.0
_SPANS = 512
_EVENTS = """
SELECT r.at_ns / 1e9, e.identifier FROM records r
  CROSS JOIN (SELECT DISTINCT length FROM windows WHERE length > 0) l
  CROSS JOIN windows w ON w.length = l.length AND w.start = r.at_ns / 1000000000 / l.length * l.length
    AND w.series_id = r.series_id AND r.seq BETWEEN w.first_seq AND w.last_seq AND w.event_id > 0
  JOIN meter_events e USING (event_id)
UNION ALL
SELECT r.at_ns / 1e9, e.identifier FROM meter_events e JOIN records r ON r.key = e.record_key
"""


def waits(server: Server) -> tuple[list[float], int]:
    """(seconds of each span that was accepted, in order; how many spans there are), without the first seconds."""
    assert server.ledger is not None
    received = {one["identifier"]: one["received"] for one in accepted(server.stripe)}
    with opened(server.ledger) as connection:
        (first,) = connection.execute("SELECT min(at_ns) / 1e9 FROM records").fetchone()
        (spans,) = connection.execute(
            "SELECT count(*) FROM records WHERE at_ns / 1e9 >= ?", (first + _WARM,)
        ).fetchone()
        found = connection.execute(_EVENTS).fetchall()
    times = sorted(received[name] - ended for ended, name in found if name in received and ended >= first + _WARM)
    return times, spans


def quantile(times: list[float], spans: int, share: float) -> str:
    """Seconds; infinite where too few of the spans were accepted."""
    place = math.ceil(share * spans) - 1
    return f"{times[place]:.2f}" if 0 <= place < len(times) else "-"


async def capacity() -> float:
    """Spans a second that the service takes, every one billable, in batches of 512."""
    async with service(USERS, sending=Sending(calls=CALLS["v1"])) as server:
        load = Load("grpc", server.ports["grpc"], _SPANS, 4, 4, 5, billable=1.0, elsewhere=0.0, users=USERS)
        return (await measured(server, load)).spans_per_second


async def measure(window: str, spans: int, rate: float, arguments: argparse.Namespace) -> None:
    """One line of the table."""
    sending = Sending(window, CALLS[arguments.api], arguments.api)
    async with service(USERS, sending=sending) as server:
        load = Load("grpc", server.ports["grpc"], spans, 4, 16, arguments.seconds, _WARM, rate / spans)
        load.billable, load.elsewhere, load.users = 1.0, 0.0, USERS
        point = await measured(server, load)
        assert server.ledger is not None
        whole = await sent(server.ledger, arguments.patience)
        times, made = await asyncio.to_thread(waits, server)
    cells = (
        window,
        f"{point.spans_per_second:,.0f}",
        f"{made:,}",
        *(quantile(times, made, share) for share in (0.5, 0.99)),
        f"{times[-1]:.2f}" if len(times) == made else "-",
        f"{1e3 * point.p99:.0f}",
        "" if whole else f"{made - len(times):,} spans had not been sent {arguments.patience:.0f} s later",
    )
    print("| " + " | ".join(cells) + " |", flush=True)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", nargs="+", default=["0s", "1s", "10s"])
    parser.add_argument("--loads", nargs="+", choices=("light", "heavy"), default=["light", "heavy"])
    parser.add_argument(
        "--heavy", type=float, help="spans a second; default: half of what is possible, measured first"
    )
    parser.add_argument("--seconds", type=float, default=30, help="measured for each line (30)")
    parser.add_argument("--api", choices=CALLS, default="v1")
    parser.add_argument("--patience", type=float, default=30, help="seconds that sending may take afterwards (30)")
    arguments = parser.parse_args()
    print(machine())
    if "heavy" in arguments.loads and not arguments.heavy:
        arguments.heavy = await capacity() / 2
        print(f"half of what is possible: {arguments.heavy:,.0f} spans/s")
    print(
        f"\n{arguments.api}, {USERS:,} customers; seconds from a span's end until Stripe's double has accepted it\n"
    )
    print("| window | spans/s | spans | p50 | p99 | worst | ack p99 ms | |")
    print("| --- |" + " ---: |" * 6 + " --- |")
    for name in arguments.loads:
        for window in arguments.windows:
            await measure(window, *((1, LIGHT) if name == "light" else (_SPANS, arguments.heavy)), arguments)


if __name__ == "__main__":
    asyncio.run(main())
