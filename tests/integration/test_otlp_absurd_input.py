"""Absurd requests: the receiver stays up, stays quick, and its memory is bounded by what it admits."""

import json
import subprocess
import sys

import pytest

MEASURE = """
import asyncio, json, resource, sys, time
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otel_usageflow.component import Consumed
from otlp_harness import numbered, numbered_json, otlp, call, post

COUNT = 1_000_000
kind = sys.argv[1]
if kind == "json":
    attributes = ",".join('{"key":"k%d","value":{"intValue":"1"}}' % n for n in range(COUNT))
    body = json.dumps(numbered_json(1)).replace('"kind"', '"attributes":[%s],"kind"' % attributes, 1).encode()
    del attributes
else:
    request = numbered(1)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    for n in range(COUNT):
        span.attributes.add(key=f"k{n}").value.int_value = 1
    body = request.SerializeToString()
    del request
span = None

seen = []
async def consume(payload):
    seen.append(payload)
    return Consumed()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def main():
    async with otlp(consume) as receiver:
        before, began = peak(), time.monotonic()
        if kind == "grpc":
            assert (await call(receiver, body)).code.name == "OK"
        else:
            kind_of = "application/json" if kind == "json" else "application/x-protobuf"
            assert (await post(receiver, body, kind_of)).status == 200
        took, grown = time.monotonic() - began, peak() - before
    read = ExportTraceServiceRequest.FromString(seen[0])
    count = len(read.resource_spans[0].scope_spans[0].spans[0].attributes)
    print(json.dumps({"count": count, "mib": len(body) // 2**20, "seconds": took, "grown_mib": grown}))

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["grpc", "protobuf", "json"])
def test_a_million_attributes_in_one_span(kind: str) -> None:
    """A span with a million attributes is handed on whole, within seconds, and without growing past the budget."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, kind],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    print(result)
    assert result["count"] == 1_000_000
    assert result["seconds"] < 30
    assert result["grown_mib"] < 1_024
