"""What deciding costs: decoding, and decoding with policies, per request, in processes of their own.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/policy_micro.py

Prints microseconds of CPU time per span, the least of many rounds of one batch of 512 SERVER spans of 16 attributes;
the least, because whatever else the machine does only adds to it. `decided` is all of it; `noted` is the part of that
which looks for requests that are missing.
"""

import argparse
import random
import time
from collections.abc import Callable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_usageflow.model.spans import decode_request
from otel_usageflow.policy.arriving import note
from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.policy import compile_policy
from otel_usageflow.policy.text import PLACEHOLDERS
from otel_usageflow.policy.trace_ids import MOST, kept_by

SPANS = 512
NOW = 1_800_000_000_000_000_000
STATES = {"no tracestate": "", "another vendor's": "congo=t61rcWkgMzE", "ot=th": "ot=th:e666,congo=t61rcWkgMzE"}


def batch(state: str) -> bytes:
    """One export request; every span has this tracestate."""
    chance = random.Random(1)
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.append(_pair("service.name", "shop"))
    scope_spans = resource_spans.scope_spans.add()
    for number in range(SPANS):
        # The trace ids pass the threshold, as those of sampled requests do.
        trace_id = chance.randbytes(9) + b"\xff" + chance.randbytes(6)
        scope_spans.spans.append(_span(trace_id, chance.randbytes(8), state, number))
    return request.SerializeToString()


def _span(trace_id: bytes, span_id: bytes, state: str, number: int) -> Span:
    attributes: dict[str, str | int] = {
        "http.request.method": "POST",
        "url.scheme": "https",
        "url.path": "/v1/chat/completions",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "server.address": "api.example.com",
        "server.port": 443,
        "client.address": "203.0.113.7",
        "network.protocol.version": "1.1",
        "user_agent.original": "python-httpx/0.27.0",
        "enduser.id": f"user-{number % 50}",
        "gen_ai.usage.output_tokens": 120 + number,
        **{f"app.note.{index}": "x" * 20 for index in range(4)},
    }
    return Span(
        trace_id=trace_id, span_id=span_id, trace_state=state, flags=0x300, kind=Span.SPAN_KIND_SERVER, name="POST",
        start_time_unix_nano=NOW - 2_000_000_000, end_time_unix_nano=NOW - 1_000_000_000,
        attributes=[_pair(key, value) for key, value in attributes.items()],
    )  # fmt: skip


def _pair(key: str, value: str | int) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(**{"int_value" if isinstance(value, int) else "string_value": value}))


def engine() -> PolicyEngine:
    """One policy that takes every span of the batch."""
    config = PolicyConfig.model_validate(
        {
            "name": "chat",
            "endpoint": "POST /v1/chat/completions",
            "user": {"metadata": "enduser.id"},
            "customer": {"metadata_field": "account_id"},
            "event_name": "api_request",
        }
    )
    return PolicyEngine([compile_policy(config, PLACEHOLDERS)])


def least(work: Callable[[], object], rounds: int) -> float:
    """Microseconds per span of the fastest round."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time_ns()
        work()
        best = min(best, time.process_time_ns() - began)
    return best / 1_000 / SPANS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1_000, help="default: 1000")
    rounds = parser.parse_args().rounds
    policies = engine()
    print(f"{'':20}{'decoded':>10}{'noted':>10}{'decided':>10}   us of CPU time per span")
    for name, state in STATES.items():
        payload = batch(state)
        assert len(policies.evaluate(payload, NOW).records) == SPANS
        decoded = least(lambda payload=payload: decode_request(payload), rounds)  # type: ignore[misc]
        decided = least(lambda payload=payload: policies.evaluate(payload, NOW), rounds)  # type: ignore[misc]
        servers = list(decode_request(payload).resource_spans[0].scope_spans[0].spans)
        noted = least(lambda servers=servers: note({}, "shop", {}, servers), rounds)  # type: ignore[misc]
        print(f"{name:20}{decoded:10.3f}{noted:10.3f}{decided:10.3f}")
    chance = random.Random(2)
    lot = {chance.randbytes(16) for _ in range(MOST)}
    print(f"{MOST} trace ids judged: {least(lambda: kept_by(lot), 100) * SPANS / 1_000:.1f} ms")


if __name__ == "__main__":
    main()
