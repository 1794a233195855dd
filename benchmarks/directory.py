"""What a million customers cost: to list, to keep, to look up, to start with, and what commits feel of it.

    .venv/bin/python benchmarks/directory.py --customers 100000      a look, about a minute
    .venv/bin/python benchmarks/directory.py                         a million customers
    .venv/bin/python benchmarks/directory.py --documented            the same at Stripe's documented limits
    .venv/bin/python benchmarks/directory.py --ledger DIRECTORY      only what a ledger that is there can tell

The service and the Stripe double are processes of their own on 127.0.0.1. Without --documented the limits are raised
in both (`calls_per_second`), so that what is measured is this program. At the documented ones of a live key a page
has its turn some 21 times a second: eight minutes for a million customers, if Stripe answers at once.
"""

import argparse
import asyncio
import datetime
import json
import os
import platform
import random
import re
import shutil
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.flow.lookup import Lookup
from otel_usageflow.extensions.sqlite_storage.reading.condition import condition

_CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
processors:
  usage_policy:
    policies:
      - {{name: chat, endpoint: POST /chat, user: {{header: x-account-id}}, customer: {{metadata_field: account_id}},
         event_name: api_request}}
exporters:
  stripe_meter:
    api_key: sk_live_directory
    {raised}
    endpoints: {{api: "{url}", meter_events: "{url}", connect: "{url}"}}
    sending_queue: {{storage: sqlite_storage}}
extensions: {{sqlite_storage: {{directory: "{directory}"}}}}
service:
  extensions: [sqlite_storage]
  pipelines: {{traces: {{receivers: [otlp], processors: [usage_policy], exporters: [stripe_meter]}}}}
  telemetry: {{logs: {{encoding: json}}}}
"""
_BATCH = 50
_EVERY = 0.05
"""Seconds between two calls while acknowledgements are timed: 1,000 spans a second."""


class Service:
    """The service as a process, and what its log said."""

    def __init__(self, config: Path, port: int) -> None:
        self._config, self._port = config, port
        self.said: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def start(self) -> float:
        """Start it; return after how many seconds it takes spans."""
        began = time.perf_counter()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "otel_usageflow", "--config", str(self._config), stderr=PIPE, limit=2**20
        )
        self._reading = asyncio.create_task(self._read())
        await self.line("ready")
        return time.perf_counter() - began

    async def line(self, event: str) -> dict[str, Any]:
        """Wait for a line of the log."""
        while True:
            if (found := next((one for one in self.said if one["event"] == event), None)) is not None:
                return found
            self._news.clear()
            await self._news.wait()

    def last(self, event: str) -> dict[str, Any]:
        """The last line of a kind; empty if there is none."""
        return next((one for one in reversed(self.said) if one["event"] == event), {})

    @property
    def resident(self) -> tuple[float, float]:
        """MiB resident now, and at most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        now, most = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
        assert now is not None
        assert most is not None
        return int(now[1]) / 1024, int(most[1]) / 1024

    async def end(self, *, kill: bool = False) -> None:
        """End it."""
        (self.process.kill if kill else self.process.terminate)()
        await self.process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            with suppress(ValueError):
                self.said.append(json.loads(line))
            self._news.set()

    def take(self, users: Sequence[str]) -> float:
        """Hand in one request for each user; return after how many seconds it was acknowledged."""
        body = ExportTraceServiceRequest()
        resource = body.resource_spans.add()
        spans = resource.scope_spans.add().spans
        ended = time.time_ns()
        for user in users:
            span = Span(
                trace_id=os.urandom(16),
                span_id=os.urandom(8),
                name="POST /chat",
                kind=Span.SPAN_KIND_SERVER,
                start_time_unix_nano=ended - 1_000,
                end_time_unix_nano=ended,
                flags=0x100,
            )
            told = {"http.request.method": "POST", "url.path": "/chat", "http.request.header.x-account-id": user}
            for key, value in told.items():
                span.attributes.add(key=key).value.string_value = value
            span.attributes.add(key="http.response.status_code").value.int_value = 200
            spans.append(span)
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/v1/traces",
            body.SerializeToString(),
            {"Content-Type": "application/x-protobuf"},
        )
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
        return time.perf_counter() - began


async def acknowledged(service: Service, until: asyncio.Future[Any], users: int) -> list[float]:
    """Seconds to the acknowledgement of each call, until something has happened."""
    chance, times = random.Random(1), []
    while not until.done():
        asked = [f"user-{chance.randrange(users)}" for _ in range(_BATCH)]
        times.append(await asyncio.to_thread(service.take, asked))
        await asyncio.sleep(_EVERY)
    return times


def shown(times: Sequence[float]) -> str:
    """Median, p99 and most."""
    if len(times) < 2:
        return "too few"
    p99 = statistics.quantiles(times, n=100)[98]
    return (
        f"{len(times):,} calls, median {1e3 * statistics.median(times):.1f} ms, p99 {1e3 * p99:.1f} ms, "
        f"most {1e3 * max(times):.0f} ms"
    )


def reads(url: str) -> dict[str, int]:
    """How often the double was read, by path."""
    with urllib.request.urlopen(f"{url}/_double/reads", timeout=10) as answer:
        return {one["path"]: one["reads"] for one in json.load(answer)["data"]}


def look_up(directory: Path, customers: int, active: int) -> tuple[float, float]:
    """Microseconds a look-up of active users, the first time and again."""
    chance = random.Random(2)
    asked = [("", "account_id", f"user-{chance.randrange(customers)}") for _ in range(active)]
    with closing(open_for_reading(directory)) as connection:
        connection.execute("PRAGMA cache_size = -65536")  # as the service's
        lookup, took = Lookup(_book(directory)), []
        for _ in range(2):
            began = time.process_time()
            for first in range(0, active, 2_000):
                lookup.customers(connection, asked[first : first + 2_000])
            took.append(1e6 * (time.process_time() - began) / active)
    return took[0], took[1]


async def double(arguments: argparse.Namespace) -> tuple[Process, str]:
    """Stripe, with everybody in it."""
    limits = [] if arguments.documented else ["--no-rate-limits"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "otel_usageflow.testing.stripe", "--port", "0", "--api-key", "sk_live_directory"),
        *("--meter", "api_request", "--customers", f"{arguments.customers}:account_id=user-{{}}", *limits),
        stdout=PIPE,
    )
    assert process.stdout is not None
    while not (found := re.search(rb"http://[0-9.:]+", await process.stdout.readline())):
        if process.returncode is not None:
            raise SystemExit("the double did not start")
    return process, found[0].decode()


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measure(arguments: argparse.Namespace, directory: Path) -> None:
    """Everything."""
    customers, active = arguments.customers, min(arguments.active, arguments.customers)
    stripe, url = await double(arguments)
    config, ledger = directory / "usageflow.yaml", directory / "ledger"
    port = free_port()
    raised = "" if arguments.documented else "calls_per_second: 100000"
    config.write_text(_CONFIG.format(http=port, url=url, directory=ledger, raised=raised))
    try:
        service = Service(config, port)
        print(f"start with an empty ledger: {await service.start():.2f} s")
        began = time.perf_counter()
        half = asyncio.create_task(_listed(ledger, customers // 2))
        times = await acknowledged(service, half, active)
        took = time.perf_counter() - began
        before = await half
        await service.end(kill=True)
        service = Service(config, port)
        print(f"killed after {before:,} customers; start in the middle of the listing: {await service.start():.2f} s")
        began = time.perf_counter()
        whole = asyncio.create_task(service.line("customers_listed"))
        times += await acknowledged(service, whole, active)
        took += time.perf_counter() - began
        pages = reads(url).get("/v1/customers", 0)
        rate = customers / took
        print(f"listing: {took:.0f} s, {pages:,} pages read for {-(-customers // 100):,}, {rate:,.0f} customers/s")
        print(f"acknowledgement of {_BATCH} spans, 20 calls a second, while it lists: {shown(times)}")
        quiet = asyncio.ensure_future(asyncio.sleep(20))
        print(f"  and afterwards: {shown(await acknowledged(service, quiet, active))}")
        print("resident after the listing: {:.0f} MiB, at most {:.0f} MiB".format(*service.resident))
        await _active(service, ledger, active)
        print(
            "resident with {:,} active users: {:.0f} MiB, at most {:.0f} MiB".format(
                arguments.active, *service.resident
            )
        )
        await service.end()
        at_rest(ledger, customers, active)
        service = Service(config, port)
        print(f"start with {customers:,} customers: {await service.start():.2f} s")
        await service.end()
        await _doctor(config)
        print("reads of Stripe in all:", ", ".join(f"{path} {count:,}" for path, count in sorted(reads(url).items())))
    finally:
        stripe.terminate()
        await stripe.wait()


async def _listed(ledger: Path, customers: int) -> int:
    """Wait until so many customers were listed; return how many there are."""
    while True:
        await asyncio.sleep(0.5)
        with suppress(Exception), closing(open_for_reading(ledger)) as connection:
            row = connection.execute("SELECT listed FROM listings").fetchone()
            if row is not None and row[0] >= customers:
                return int(row[0])


async def _active(service: Service, ledger: Path, active: int) -> None:
    """Usage of many users, until it is all frozen."""
    began = time.perf_counter()
    for first in range(0, active, 500):
        await asyncio.to_thread(service.take, [f"user-{one}" for one in range(first, min(first + 500, active))])
    while True:
        await asyncio.sleep(1)
        with closing(open_for_reading(ledger)) as connection:
            (left,) = connection.execute("SELECT count(*) FROM open_windows").fetchone()
        if not left:
            break
    print(f"usage of {active:,} users taken and frozen in {time.perf_counter() - began:.0f} s")


def _directory_bytes(ledger: Path) -> int:
    """What the tables of the directory take: a copy of them in a file of its own, if pages cannot be counted."""
    with closing(open_for_reading(ledger)) as connection:
        (tables,) = connection.execute(
            "SELECT sum(length(field) + 2 * length(value) + 2 * length(customer) + 30) FROM customers"
        ).fetchone()
        with suppress(Exception):
            (tables,) = connection.execute(
                "SELECT sum(pgsize) FROM dbstat WHERE name IN ('customers', 'values_of_customer')"
            ).fetchone()
    return int(tables)


def at_rest(ledger: Path, customers: int, active: int) -> None:
    """What a ledger tells that nobody writes."""
    disk = _directory_bytes(ledger)
    print(f"on disk: {disk / 2**20:.0f} MiB for the directory, {disk / customers:.0f} bytes a customer")
    cold, warm = look_up(ledger, customers, active)
    print(f"look-up: {cold:.2f} us the first time (in batches), {warm:.2f} us when warm, of CPU time")
    began, cpu = time.perf_counter(), time.process_time()
    found = condition(ledger, _book(ledger), 0.0).directories
    took, used = time.perf_counter() - began, time.process_time() - cpu
    print(f"what doctor counts: {sum(one.customers for one in found):,}, {took:.1f} s, {used:.2f} s of CPU time")


def _book(ledger: Path) -> str:
    with closing(open_for_reading(ledger)) as connection:
        return str(connection.execute("SELECT book FROM accounts LIMIT 1").fetchone()[0])


async def _doctor(config: Path) -> None:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "otel_usageflow", "doctor", "--config", str(config), stdout=PIPE
    )
    assert process.stdout is not None
    most = 0
    out = b""
    while chunk := await process.stdout.read(65_536):
        out += chunk
        with suppress(OSError):
            most = max(most, _most_resident(process.pid))
    await process.wait()
    line = next((line for line in out.decode().splitlines() if "customers have" in line), "")
    print(f"doctor: {time.perf_counter() - began:.1f} s, {most / 1024:.0f} MiB: {' '.join(line.split())}")


def _most_resident(process: int) -> int:
    """Kilobytes."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) if found else 0


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--active", type=int, default=100_000, help="users with usage (default: 100,000)")
    parser.add_argument("--ledger", type=Path, help="the directory of a ledger of an earlier run")
    parser.add_argument("--documented", action="store_true", help="at Stripe's documented limits")
    arguments = parser.parse_args()
    today = datetime.datetime.now(datetime.UTC)
    print(f"{today:%Y-%m-%d}, {os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}")
    if arguments.ledger is not None:
        at_rest(arguments.ledger, arguments.customers, arguments.active)
        return
    directory = Path(tempfile.mkdtemp())
    try:
        asyncio.run(measure(arguments, directory))
    finally:
        shutil.rmtree(directory)


def _processor() -> str:
    with suppress(OSError):
        if found := re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()):
            return found[1]
    return platform.machine()


if __name__ == "__main__":
    main()
