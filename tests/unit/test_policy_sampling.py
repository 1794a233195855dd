"""Policies over sampled requests: as they are received, or by the weight that they say they have."""

from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from span_builder import NOW, http, payload, policy, span

from otel_usageflow.components import registry
from otel_usageflow.config.load import load
from otel_usageflow.errors import ConfigErrors
from otel_usageflow.model.usage import Reason, UsageBatch, UsageRecord
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.policy import compile_policy
from otel_usageflow.policy.text import PLACEHOLDERS

KEPT = b"\x01" * 9 + b"\xff" * 7
"""A trace id that every threshold keeps."""


def request(state: str, *, user: str | None = "acme", trace_id: bytes = KEPT) -> Span:
    named = {} if user is None else {"http.request.header.x-account-id": user}
    made: Span = span(http() | named | {"app.tokens": 30})
    made.trace_state, made.trace_id = state, trace_id
    return made


def judged(*spans: Span, heaviest: int | None = None, **changes: Any) -> UsageBatch:
    policies = [compile_policy(policy(**changes), PLACEHOLDERS)]
    return PolicyEngine(policies, heaviest=heaviest).evaluate(payload(*spans), NOW)


def weighed(state: str, heaviest: int = 1000, **changes: Any) -> UsageRecord:
    (record,) = judged(request(state), heaviest=heaviest, **changes).records
    return record


@pytest.mark.parametrize(
    "state", ["ot=th:c", "ot=p:10", "ot=th:ffffffffffffff", "ot=p:63", "ot=th:zz", "vendor=1", ""]
)
def test_as_received_every_request_counts_once(state: str) -> None:
    """Unless it is asked for, nothing is multiplied by what a trace state says: nobody is billed for a guess."""
    (record,) = judged(request(state)).records
    assert (record.quantity, record.reason) == (1, None)


@pytest.mark.parametrize(
    ("state", "quantity"),
    [
        ("", 1),
        ("vendor=1", 1),
        ("ot=th:0", 1),
        ("ot=th:8", 2),
        ("ot=p:3", 8),
        ("ot=th:e666", Decimal("9.999389686")),
        ("ot=th:fd70a4", Decimal("100.000095368")),
        ("ot=th:zz", 1),
        ("ot=p:63", 1),
    ],
)
def test_by_weight(state: str, quantity: int | Decimal) -> None:
    """Under adjust a request counts as its threshold says; what says nothing, or what cannot be used, counts once."""
    assert weighed(state).quantity == quantity


def test_a_measured_quantity_is_multiplied() -> None:
    """The request stands for others that needed as much."""
    assert weighed("ot=th:8", quantity={"attribute": "app.tokens"}).quantity == 60
    assert weighed("ot=th:8", quantity="0.5").quantity == 1
    assert weighed("ot=th:8", quantity={"attribute": "app.tokens"}).source == "header x-account-id"


def test_a_weight_above_the_largest_is_quarantined() -> None:
    """A caller that writes itself a huge weight is not believed, and its request is kept."""
    assert weighed("ot=th:ff", heaviest=256).quantity == 256
    refused = weighed("ot=th:ff8", heaviest=256)
    assert (refused.quantity, refused.reason, refused.user) == (None, Reason.BAD_QUANTITY, "acme")


def test_a_product_that_is_too_large_is_quarantined() -> None:
    """As any other quantity from 10^18 on."""
    refused = weighed("ot=th:8", quantity=5 * 10**17)
    assert (refused.quantity, refused.reason) == (None, Reason.BAD_QUANTITY)


def test_a_threshold_that_was_not_applied_counts_once() -> None:
    """A trace id below the threshold shows that the threshold is not that of this span's sampler."""
    batch = judged(request("ot=th:8", trace_id=b"\x01" * 9 + b"\x7f" * 7), heaviest=1000)
    assert [record.quantity for record in batch.records] == [1]
    assert batch.arrivals["shop"].doubts == {"inconsistent": 1}


def test_no_user_stays_the_reason() -> None:
    """Without a user and with too large a weight: `no_user`, as ever."""
    (record,) = judged(request("ot=th:ff8", user=None), heaviest=2).records
    assert record.reason is Reason.NO_USER


def test_meters_that_count_are_told() -> None:
    """Under adjust no policy has one quantity for all, so that an exporter refuses to feed a counting meter."""
    compiled = [compile_policy(policy(), PLACEHOLDERS)]
    assert [one.terms.quantity for one in PolicyEngine(compiled).policies] == [1]
    assert [one.terms.quantity for one in PolicyEngine(compiled, heaviest=1000).policies] == [None]


def test_what_spans_tell_is_counted_by_service() -> None:
    """Every SERVER span with valid ids counts, whatever becomes of it."""
    spans = [
        request("", trace_id=b"\x02" * 16),
        request("", trace_id=b"\x02" * 16),
        request("ot=th:8"),
        request("ot=th:0"),
        request("ot=th:zz"),
        span(http(), kind=Span.SPAN_KIND_CLIENT),
    ]
    seen = judged(*spans).arrivals["shop"]
    assert (seen.spans, seen.weighed, seen.several, seen.stands_for) == (5, 2, 1, 3.0)
    assert seen.doubts == {"malformed": 1}
    assert (seen.begun, seen.continued) == ({b"\x02" * 16, KEPT}, set())


def test_traces_of_callers_are_kept_apart() -> None:
    """A request with a parent continues a trace of which somebody else decided whether it is sampled."""
    continued = request("")
    continued.parent_span_id = b"caller-1"
    seen = judged(continued, request("", trace_id=b"\x02" * 16)).arrivals["shop"]
    assert (seen.begun, seen.continued) == ({b"\x02" * 16}, {KEPT})


def test_trace_ids_that_are_none_are_left_out() -> None:
    """An id of zeros or of a wrong length is no evidence of anything."""
    assert judged(request("", trace_id=bytes(16)), request("", trace_id=b"short")).arrivals["shop"].begun == set()


def test_what_the_sdk_gave_up_is_read() -> None:
    """The running total of a process, from its resource; anything else in its place is nothing."""

    def lost(**resource: Any) -> dict[str, int]:
        engine = PolicyEngine([compile_policy(policy(), PLACEHOLDERS)])
        named = {key.replace("__", "."): value for key, value in resource.items()}
        return engine.evaluate(payload(request(""), resource=named), NOW).arrivals["shop"].lost

    assert lost(otel_usageflow__sdk__process="a1", otel_usageflow__sdk__lost=7) == {"a1": 7}
    assert lost(otel_usageflow__sdk__process="a1", otel_usageflow__sdk__lost="7") == {}
    assert lost(otel_usageflow__sdk__process="a1", otel_usageflow__sdk__lost=-7) == {}
    assert lost(otel_usageflow__sdk__lost=7) == {}


def test_a_user_that_may_have_been_dropped_is_told_apart() -> None:
    """No user, and attributes dropped: an SDK's limit may have cut it off."""
    cut, whole, found = request("", user=None), request("", user=None), request("")
    cut.dropped_attributes_count = found.dropped_attributes_count = 3
    batch = judged(cut, whole, found)
    assert [record.reason for record in batch.records] == [Reason.NO_USER, Reason.NO_USER, None]
    assert batch.cut_short == {"chat": 1}


CONFIG = """
receivers: {otlp: {protocols: {http: {}}}}
processors:
  usage_policy:
    sampling: SAMPLING
    policies:
      - name: chat
        endpoint: POST /chat
        user: {header: x-account-id}
        customer: {metadata_field: account_id}
        event_name: tokens
        quantity: {from: trace, attributes: [app.tokens]}
exporters: {debug: {}}
service: {pipelines: {traces: {receivers: [otlp], processors: [usage_policy], exporters: [debug]}}}
"""


def test_sums_over_traces_cannot_be_weighed(tmp_path: Any) -> None:
    """The two together are an error at the start that names both."""
    file = tmp_path / "usageflow.yaml"
    file.write_text(CONFIG.replace("SAMPLING", "as_received"))
    load([str(file)], [], registry())
    file.write_text(CONFIG.replace("SAMPLING", "adjust"))
    with pytest.raises(ConfigErrors) as caught:
        load([str(file)], [], registry())
    assert "processors::usage_policy::policies::0::quantity: chat sums over traces" in str(caught.value)
