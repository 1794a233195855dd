"""How fast a backlog is drained at live limits, whether Stripe ever says 429, and how long fresh usage waits then.

    .venv/bin/python benchmarks/drain.py --events 50000                    a look, a minute
    .venv/bin/python benchmarks/drain.py                                   a million events, some 20 minutes
    .venv/bin/python benchmarks/drain.py --api v2_stream                   the same through the stream
    .venv/bin/python benchmarks/drain.py --backlog windows                 usage that is not frozen yet

The service and the Stripe double are processes of their own on 127.0.0.1; the double enforces live mode's limits.
"""

import argparse
import asyncio
import datetime
import json
import os
import platform
import random
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from asyncio.subprocess import PIPE, Process
from contextlib import closing
from pathlib import Path
from typing import Any

from drain_ledger import build
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_usageflow.extensions.sqlite_storage.file import open_for_reading

_CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
processors:
  usage_policy:
    policies:
      - {{name: chat, endpoint: POST /chat, user: {{header: x-account-id}}, customer: {{metadata_field: account_id}},
         event_name: api_request}}
exporters:
  stripe_meter:
    api_key: sk_live_drain
    api: {api}
    endpoints: {{api: "{url}", meter_events: "{url}", connect: "{url}"}}
    sending_queue: {{storage: sqlite_storage}}
extensions: {{sqlite_storage: {{directory: "{directory}"}}}}
service:
  extensions: [sqlite_storage]
  pipelines: {{traces: {{receivers: [otlp], processors: [usage_policy], exporters: [stripe_meter]}}}}
"""
_WINDOW = 10


def main() -> None:
    """Build, drain, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--api", choices=("v1", "v2_stream"), default="v1")
    parser.add_argument("--backlog", choices=("frozen", "windows"), default="frozen")
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--fresh", type=int, default=20, help="requests a second of customers in the backlog")
    parser.add_argument("--every", type=int, default=10, help="seconds between two lines of progress")
    asyncio.run(_run(parser.parse_args()))


async def _run(args: argparse.Namespace) -> None:
    directory = Path(tempfile.mkdtemp(prefix="drain-"))
    began = time.time()
    here = Path(__file__).parent
    double = await asyncio.create_subprocess_exec(
        sys.executable, str(here / "drain_double.py"), str(args.customers), str(int(began)), stdout=PIPE, limit=2**24
    )
    assert double.stdout is not None
    url, customers = json.loads(await double.stdout.readline())
    took = build(directory / "ledger", args.events, customers, frozen=args.backlog == "frozen", end=int(began) - 600)
    day = datetime.datetime.now(datetime.UTC).date()
    print(f"{day}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{args.events:,} {args.backlog} of {args.customers:,} customers, built in {took:.0f} s; {args.api}")
    http = _free_port()
    (directory / "config.yaml").write_text(
        _CONFIG.format(http=http, api=args.api, url=url, directory=directory / "ledger"), "utf-8"
    )
    with (directory / "service.log").open("wb") as log:
        service = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "otel_usageflow",
            "--config",
            str(directory / "config.yaml"),
            stderr=log,
        )
    try:
        await _watch(args, service, double, http)
        service.terminate()
        await service.wait()
        _conserved(directory / "ledger", args)
    finally:
        for process in (service, double):
            if process.returncode is None:
                process.terminate()
                await process.wait()
        print(f"kept: {directory}")


async def _watch(args: argparse.Namespace, service: Process, double: Process, http: int) -> None:
    """Follow the drain until nothing is left, with fresh usage coming in."""
    assert double.stdout is not None
    stop = asyncio.Event()
    fresh = asyncio.create_task(_use(args, http, stop))
    started, waited, seen, shown = time.perf_counter(), list[float](), dict[str, Any](), 0.0
    sent_at_start, ended = 0, None
    first: tuple[float, int] | None = None
    while ended is None or time.perf_counter() < ended + 3 * _WINDOW:
        if service.returncode is not None:
            raise SystemExit("the service ended; see its log")
        seen = json.loads(await double.stdout.readline())
        waited += seen["fresh"]
        now = time.perf_counter()
        drained = seen["accepted"] - len(waited)
        if first is None and drained:
            first = (now, drained)
        if ended is None and drained >= args.events:
            ended = now
            stop.set()
        if now - shown > args.every:
            shown = now
            rate = 0.0 if first is None else (drained - first[1]) / max((ended or now) - first[0], 1e-9)
            print(
                f"{now - started:6.0f} s  {drained:>9,} drained  {rate:7.0f} events/s  {seen['refused']} refused  "
                f"service {_memory(service)} MB, {_cpu(service):.0f} s CPU  double {seen['cpu']:.0f} s CPU"
                f"  fresh {_spread(waited[sent_at_start:])}",
                flush=True,
            )
            sent_at_start = len(waited)
    assert ended is not None
    assert first is not None
    made = await fresh
    seconds = ended - first[0]
    print(
        f"\ndrained in {seconds:.0f} s: {(args.events - first[1]) / seconds:.0f} events/s, "
        f"{seen['calls']:,} calls, {seen['refused']} refused with 429, {seen['violations']} calls of a lane at once\n"
        f"fresh usage meanwhile, from the request's end to Stripe (windows of {_WINDOW} s): {_spread(waited)}; "
        f"{made} requests\n"
        f"service: {_cpu(service):.0f} s CPU, {_cpu(service) / args.events * 1e6:.0f} us an event, at most "
        f"{_memory(service, 'VmHWM')} MB; double: {seen['cpu']:.0f} s CPU"
    )


async def _use(args: argparse.Namespace, http: int, stop: asyncio.Event) -> int:
    """Requests of customers who are in the backlog, until told to stop."""
    made = 0
    while not stop.is_set():
        request = ExportTraceServiceRequest()
        spans = request.resource_spans.add().scope_spans.add().spans
        for _ in range(args.fresh):
            span = spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), kind=Span.SPAN_KIND_SERVER, flags=0x100)
            span.end_time_unix_nano = time.time_ns()
            span.start_time_unix_nano = span.end_time_unix_nano - 10**6
            user = f"user-{random.randrange(args.customers)}"
            for key, value in (("http.request.method", "POST"), ("url.path", "/chat")):
                span.attributes.add(key=key).value.string_value = value
            span.attributes.add(key="http.response.status_code").value.int_value = 200
            header = span.attributes.add(key="http.request.header.x-account-id").value.array_value
            header.values.add(string_value=user)
        if await asyncio.to_thread(_post, http, request.SerializeToString()):
            made += args.fresh
        await asyncio.sleep(1)
    return made


def _post(http: int, body: bytes) -> bool:
    headers = {"content-type": "application/x-protobuf"}
    call = urllib.request.Request(f"http://127.0.0.1:{http}/v1/traces", body, headers)
    try:
        with urllib.request.urlopen(call, timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:  # it has not started yet
        return False


def _conserved(ledger: Path, args: argparse.Namespace) -> None:
    """What the ledger says of its meter events, by state."""
    with closing(open_for_reading(ledger)) as connection:
        rows = connection.execute("SELECT state, count(*), sum(requests) FROM meter_events GROUP BY state").fetchall()
        (records,) = connection.execute("SELECT count(*) FROM records").fetchone()
        (waiting,) = connection.execute("SELECT count(*) FROM open_windows").fetchone()
    accepted = sum(requests for state, _, requests in rows if state == 2)
    print(f"ledger: {records:,} requests, {accepted:,} accepted by Stripe, {waiting} windows open, states {rows}")
    if accepted != records or waiting:
        raise SystemExit("NOT CONSERVED")


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    return f"{statistics.median(ordered):.1f} s median, {ordered[-1]:.1f} s at most"


def _cpu(process: Process) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(process: Process, what: str = "VmRSS") -> int:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) // 1024
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
