"""What `quantity: {from: trace}` costs, beside a quantity on the request's own span.

    PYTHONPATH=tests/support .venv/bin/python benchmarks/trace_cost.py

Traces of a request and seven spans below it, three of which hold tokens; batches of 512 spans. Prints the median of
deciding (CPU time) and of the commit with fsync (by the clock), what a batch adds to the ledger's file, and how long
settling takes afterwards, for each request, under a policy for the request's span and under one for its trace.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path

import structlog
from ledgers import Book, book
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from span_builder import engine, key_value, policy

from otel_usageflow.policy.engine import PolicyEngine

SPANS, BELOW = 512, 7
INPUT, OUTPUT, TOTAL = (f"gen_ai.usage.{name}_tokens" for name in ("input", "output", "total"))
POLICIES = {
    "request's span": {"attributes": [INPUT, OUTPUT]},
    "trace": {"from": "trace", "attributes": [TOTAL]},
}


def batch(chance: random.Random, ended: int) -> bytes:
    """One export request: 64 traces of 8 spans."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.append(key_value("service.name", "agents"))
    spans = resource_spans.scope_spans.add().spans
    for _ in range(SPANS // (BELOW + 1)):
        trace, root = chance.randbytes(16), chance.randbytes(8)
        for number in range(BELOW):
            tokens = {INPUT: 900 + number, OUTPUT: 80} if number % 3 == 0 else {"app.step": number}
            spans.append(_span(trace, chance.randbytes(8), root, Span.SPAN_KIND_CLIENT, ended, tokens))
        own = {"http.request.method": "POST", "url.path": "/chat", "http.response.status_code": 200}
        user = {"http.request.header.x-account-id": f"user-{chance.randrange(50)}", INPUT: 900, OUTPUT: 80}
        spans.append(_span(trace, root, b"", Span.SPAN_KIND_SERVER, ended, own | user))
    return request.SerializeToString()


def _span(trace: bytes, span_id: bytes, parent: bytes, kind: int, ended: int, more: dict[str, object]) -> Span:
    attributes = {"server.address": "api.example.com", "gen_ai.request.model": "small", "app.note": "x" * 40} | more
    return Span(
        trace_id=trace, span_id=span_id, parent_span_id=parent, kind=kind, flags=0x100, name="a span",
        start_time_unix_nano=ended - 10**9, end_time_unix_nano=ended,
        attributes=[key_value(key, value) for key, value in attributes.items()],
    )  # fmt: skip


async def measure(policies: PolicyEngine, ledger: Book, batches: int) -> tuple[float, float, float, float]:
    """Milliseconds of deciding and of the commit and kilobytes of the file, a batch; us of settling, a request."""
    chance, deciding, committing = random.Random(1), [], []
    begun = _size(ledger.directory)
    for _ in range(batches):
        payload = batch(chance, time.time_ns())
        began = time.process_time_ns()
        usage = policies.evaluate(payload, time.time_ns())
        deciding.append((time.process_time_ns() - began) / 1e6)
        began = time.perf_counter_ns()
        await ledger.commit(usage, time.time())
        committing.append((time.perf_counter_ns() - began) / 1e6)
    added = (_size(ledger.directory) - begun) / batches / 1_000
    return statistics.median(deciding), statistics.median(committing), added, await settle(ledger)


async def settle(ledger: Book) -> float:
    """Settle all requests, as after their wait; microseconds for each."""
    now, requests, began = time.time() + 60, 0, time.perf_counter_ns()
    due: float | None = now
    while due is not None and due <= now:
        settled = await ledger.ledger.settle_traces(now)
        requests, due = requests + settled.requests, settled.next_due
    return (time.perf_counter_ns() - began) / 1e3 / requests if requests else 0


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir() if not file.name.endswith("-wal"))


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=400, help="default: 400, of 512 spans each")
    batches = parser.parse_args().batches
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory())
    heads = ("deciding, ms", "commit, ms", "file, kB", "settling a request, us")
    print(f"{'':16}" + "".join(f"{head:>24}" for head in heads))
    for name, quantity in POLICIES.items():
        policies = engine(policy(quantity=quantity, **({"trace_wait": "1s"} if "from" in quantity else {})))
        with tempfile.TemporaryDirectory() as directory:
            async with book(Path(directory)) as ledger:
                figures = await measure(policies, ledger, batches)
        print(f"{name:16}" + "".join(f"{figure:24.1f}" for figure in figures))


if __name__ == "__main__":
    asyncio.run(main())
