"""The exporter `debug`: what stands in the log, and what never does."""

from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from otel_usageflow.component import Context
from otel_usageflow.exporters.debug import FACTORY
from otel_usageflow.model.usage import Reason, Terms, TraceRequest, TraceSpan, UsageBatch, UsageRecord


class NoHealth:
    """Nobody has a problem."""

    def report(self, source: str, problem: str | None) -> None: ...

    def problems(self) -> dict[str, str]:
        return {}


def record(user: str | None, source: str | None, reason: Reason | None = None) -> UsageRecord:
    """One billable request of the policy `chat`."""
    return UsageRecord(
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        ended_ns=1,
        at_ns=1,
        terms=Terms("chat", "api_request", "account_id"),
        user=user,
        source=source,
        quantity=5,
        payload=(("model", "gpt-secret"),),
        reason=reason,
    )


BATCH = UsageBatch(
    records=[
        record("acme", "header x-account-id"),
        record("sk_live_1", "api_key header x-api-key"),
        record("eyJhbGciOi", "header authorization"),
        record(None, None, Reason.NO_USER),
    ],
    spans=9,
    requests=6,
    unmatched=1,
    unbilled=Counter({("chat", "status"): 1}),
    malformed=2,
)


async def logged(verbosity: str, batch: UsageBatch = BATCH) -> list[dict[str, Any]]:
    """The lines that one batch makes."""
    config = FACTORY.config.model_validate({"verbosity": verbosity})
    with capture_logs() as logs:
        async with FACTORY.build(config, Context("debug", NoHealth(), {})) as exporter:
            await exporter.export(batch)
    return [dict(line) for line in logs]


async def test_basic_is_one_line_a_batch() -> None:
    """`basic` counts."""
    (line,) = await logged("basic")
    assert line == {
        "event": "usage",
        "log_level": "info",
        "exporter": "debug",
        "spans": 9,
        "requests": 6,
        "records": 4,
        "quarantined": {"no_user": 1},
        "unbilled": 1,
        "unmatched": 1,
        "malformed": 2,
    }


async def test_normal_counts_by_policy() -> None:
    """`normal` adds a line for each policy."""
    lines = await logged("normal")
    assert [(line["event"], line.get("policy"), line["records"]) for line in lines] == [
        ("usage", None, 4),
        ("usage of a policy", "chat", 4),
    ]


async def test_detailed_lists_records_and_hides_users() -> None:
    """`detailed` adds a line for each record; users stand only at debug level, keys, tokens and payloads nowhere."""
    lines = await logged("detailed")
    records = [line for line in lines if line["event"] == "usage record"]
    assert [(line["quantity"], line["reason"]) for line in records] == [("5", None)] * 3 + [("5", "no_user")]
    users = [line for line in lines if "user" in line]
    assert [(line["user"], line["log_level"]) for line in users] == [("acme", "debug")]
    assert all(secret not in str(lines) for secret in ("sk_live_1", "eyJhbGciOi", "gpt-secret"))


def test_unknown_verbosity_is_an_error() -> None:
    """The Collector's three words and no other."""
    with pytest.raises(ValueError, match="verbosity"):
        FACTORY.config.model_validate({"verbosity": "loud"})


async def test_a_request_that_waits_for_its_trace_is_said_to_wait() -> None:
    """It is no record yet; its place, what it waits for and the parts of its quantity are told, and no user."""
    waiting = record("sk_live_1", "api_key header x-api-key")._replace(quantity=None)
    part = TraceSpan(b"t" * 16, b"p" * 8, b"s" * 8, "api", False, 1, (("bad", None), ("tokens", 5)))
    passing = part._replace(span_id=b"q" * 8, amounts=())
    batch = UsageBatch(
        trace_requests=[
            TraceRequest(waiting, ("tokens",), 5),
            TraceRequest(record(None, None, Reason.NO_USER), ("tokens",), 5),
        ],
        trace_spans=[part, passing],
        spans=2,
        requests=2,
    )
    counts, policy, *details = await logged("detailed", batch)
    assert {key: counts[key] for key in ("records", "waiting", "trace_spans", "quarantined")} == {
        "records": 0,
        "waiting": 2,
        "trace_spans": 2,
        "quarantined": {"no_user": 1},
    }
    assert (policy["policy"], policy["records"], policy["waiting"]) == ("chat", 0, 2)
    assert [line["event"] for line in details] == ["usage record", "usage record", "part of a trace"]
    assert [line.get("waits_for") for line in details] == [["tokens"], ["tokens"], None]
    assert details[-1]["amounts"] == {"bad": None, "tokens": "5"}
    assert "sk_live_1" not in str([counts, policy, *details])
