"""What endpoints that are no paths, and request ids, cost beside a path.

    PYTHONPATH=tests/support .venv/bin/python benchmarks/request_cost.py

Batches of 512 SERVER spans. Prints the median of deciding (CPU time) and of the commit with fsync (by the clock), for
each request, under one policy for a path, the same with an id on each span, with an id that two spans share, and
under one and a thousand policies for gRPC methods.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from ledgers import Book, book
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from span_builder import engine, key_value, policy

from otel_usageflow.policy.engine import PolicyEngine

SPANS = 512
Attributes = Callable[[random.Random, int], dict[str, Any]]


def path(_chance: random.Random, _number: int) -> dict[str, Any]:
    """A request to a path."""
    return {"http.request.method": "POST", "url.path": "/chat", "http.response.status_code": 200}


def identified(share: int) -> Attributes:
    """A request to a path, with an id that `share` spans of a batch have."""
    told: list[str] = []

    def attributes(chance: random.Random, number: int) -> dict[str, Any]:
        if number % share == 0:
            told[:] = [chance.randbytes(16).hex()]
        return path(chance, number) | {"http.request.header.x-request-id": list(told)}

    return attributes


def call(chance: random.Random, _number: int) -> dict[str, Any]:
    """A gRPC call of one of a thousand methods."""
    method = f"M{chance.randrange(1_000)}"
    return {"rpc.system": "grpc", "rpc.service": "shop.Orders", "rpc.method": method, "rpc.grpc.status_code": 0}


def batch(attributes: Attributes, chance: random.Random, ended: int) -> bytes:
    """One export request."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.append(key_value("service.name", "shop"))
    spans = resource_spans.scope_spans.add().spans
    user = ""
    for number in range(SPANS):
        user = user if number % 2 else f"user-{chance.randrange(50)}"
        told = attributes(chance, number)
        header = "rpc.request.metadata.x-account-id" if "rpc.system" in told else "http.request.header.x-account-id"
        more = {"server.address": "api.example.com", "app.note": "x" * 40, header: [user]}
        spans.append(
            Span(
                trace_id=chance.randbytes(16),
                span_id=chance.randbytes(8),
                kind=Span.SPAN_KIND_SERVER,
                flags=0x100,
                start_time_unix_nano=ended - 10**9,
                end_time_unix_nano=ended,
                attributes=[key_value(key, value) for key, value in (told | more).items()],
            )
        )
    return request.SerializeToString()


async def measure(policies: PolicyEngine, attributes: Attributes, ledger: Book, batches: int) -> tuple[float, float]:
    """Microseconds of deciding and of the commit, for each request."""
    chance, deciding, committing = random.Random(1), [], []
    for _ in range(batches):
        payload = batch(attributes, chance, time.time_ns())
        began = time.process_time_ns()
        usage = policies.evaluate(payload, time.time_ns())
        deciding.append((time.process_time_ns() - began) / 1e3 / SPANS)
        began = time.perf_counter_ns()
        await ledger.commit(usage, time.time())
        committing.append((time.perf_counter_ns() - began) / 1e3 / SPANS)
    return statistics.median(deciding), statistics.median(committing)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200, help="default: 200, of 512 spans each")
    batches = parser.parse_args().batches
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory())
    by_id = engine(policy(request_id={"header": "x-request-id"}))
    methods = [
        policy(name=f"p{number}", endpoint=f"grpc shop.Orders/M{number}", event_name=f"e{number}")
        for number in range(1_000)
    ]
    cases: list[tuple[str, PolicyEngine, Attributes]] = [
        ("a path", engine(policy()), path),
        ("a path, ids", by_id, identified(1)),
        ("a path, an id for two spans", by_id, identified(2)),
        ("one gRPC policy", engine(policy(endpoint="grpc *")), call),
        ("a thousand gRPC policies", engine(*methods), call),
    ]
    print(f"{'':32}{'deciding, us':>16}{'commit, us':>16}")
    for name, policies, attributes in cases:
        with tempfile.TemporaryDirectory() as directory:
            async with book(Path(directory)) as ledger:
                figures = await measure(policies, attributes, ledger, batches)
        print(f"{name:32}" + "".join(f"{figure:16.1f}" for figure in figures))


if __name__ == "__main__":
    asyncio.run(main())
