"""What is fuzzed: bytes from strangers in, and nothing out but an answer or an error that is written down.

Each subject takes bytes. Whatever they are, only `InvalidData` and `Unavailable` may come of them, which receivers
answer with the status of the OTLP specification; a subject swallows these and lets all else through. What holds for
any answer is asserted, so that a fuzzer finds wrong answers, too.
"""

import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from fuzz_spans import chosen_requests
from reader_twins import Twins

from otel_usageflow.errors import InvalidData, Unavailable
from otel_usageflow.model.reader import COMPILED
from otel_usageflow.model.recorded import recorded_request
from otel_usageflow.model.recording import recorded_pieces
from otel_usageflow.model.usage import Reason, UsageBatch
from otel_usageflow.policy.discovery.document import as_json
from otel_usageflow.policy.discovery.starter import starter
from otel_usageflow.policy.discovery.survey import Survey
from otel_usageflow.policy.preview import preview
from otel_usageflow.policy.text import MAX_USER_LENGTH, PLACEHOLDERS
from otel_usageflow.processors.usage_policy import UsagePolicyConfig, compile_engine
from otel_usageflow.receivers.otlp.json import transcode

NOW: Final = 1_800_000_000_000_000_000

SOURCES: Final[list[dict[str, Any]]] = [
    {"header": "x-account-id", "transform": ["lower", {"strip_prefix": "id:"}, {"regex": "^([^/]+)"}]},
    {"api_key": {"header": "authorization", "scheme": "bearer"}},
    {"api_key": {"header": "x-api-key", "hash": "hmac-sha256", "secret": "s"}, "transform": {"strip_suffix": "="}},
    {"api_key": {"query": "key", "hash": "none"}},
    {"jwt": {"claim": "org.tenant", "verify": {"secret": "x" * 64, "audience": "a", "issuer": "i"}}},
    {"jwt": {"claim": "sub", "verify": "none", "header": "x-token"}},
    {"jwt": {"claim": "sub", "verify": "none", "cookie": "session"}},
    {"cookie": "account"},
    {"baggage": "account.id"},
    {"basic_auth": "user"},
    {"client_certificate": "uri"},
    {"client_certificate": "common_name", "element": "first"},
    {"client_certificate": "hash"},
    {"query": "account"},
    {"body": "user.ids.0"},
    {"template": "{header:x-org}/{query:project}"},
    {"metadata": "enduser.id"},
    {"metadata": "tenant", "scope": "resource"},
]
_CUSTOMER: Final = {"metadata_field": "account_id"}
_CONDITION: Final = (
    "attributes.exists(k, k.startsWith('x')) || resource['service.name'] == 'shop' || span.duration_seconds > 1.0 "
    "|| span.status in [200, 404] || span.path.contains('a') || attributes['gen_ai.request.model'].matches('^gpt')"
)
_EXPRESSION: Final = "has(attributes.n) ? attributes.n : (span.duration_ns + 59999999999) / 60000000000"


def _policy(name: str, **keys: Any) -> dict[str, Any]:
    base = {"name": name, "endpoint": "* /**", "event_name": name, "status": "any", "customer": _CUSTOMER}
    return {**base, "user": {"metadata": "enduser.id"}, **keys}


EVERYTHING: Final = compile_engine(
    UsagePolicyConfig.model_validate(
        {
            "placeholders": ["anonymous"],
            "exclude_scopes": ["left-out"],
            "request_id": [{"header": "x-request-id"}, {"attribute": "guid:x-request-id"}],
            "policies": [
                _policy(
                    "every", user=SOURCES, quantity={"attributes": ["n", "m"]}, payload={"p": {"attribute": "n"}}
                ),
                *(_policy(f"source-{index}", user=source) for index, source in enumerate(SOURCES)),
                _policy("path", endpoint=["GET|POST /:id", "* /a/{id}/*rest"], user={"path": "id"}),
                _policy("condition", match={"condition": _CONDITION}, quantity={"expression": _EXPRESSION}),
                _policy(
                    "match",
                    match={
                        "host": "a.example",
                        "service": "shop",
                        "scope": ["s", "t"],
                        "attributes": {"n": [1, True]},
                    },
                    quantity={"attribute": "n"},
                ),
                _policy("size", quantity={"attribute": "http.response.body.size"}, request_id="none"),
                _policy(
                    "tokens",
                    quantity={
                        "from": "trace",
                        "attributes": ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"],
                        "input_excludes_cache": "anthropic",
                    },
                ),
                _policy("traced", quantity={"from": "trace", "attributes": ["n"], "scope": "s"}, trace_wait="1s"),
                _policy("grpc", endpoint=["grpc shop.Orders/Get", "grpc shop.Orders/*", "grpc *"], user=SOURCES[:4]),
                _policy("graphql", endpoint=["graphql query Prices", "graphql * *"]),
            ],
        }
    )
)
"""Every source, condition, quantity and kind of endpoint at once."""
ADJUSTED: Final = compile_engine(
    UsagePolicyConfig.model_validate({"sampling": "adjust", "policies": [_policy("weighed"), _policy("other")]})
)
"""Requests by the weight that their trace state says."""


def evaluate(data: bytes) -> None:
    """Spans in protobuf, judged by both sets of policies; the same twice."""
    for engine in (EVERYTHING, ADJUSTED):
        with suppress(InvalidData, Unavailable):
            batch = engine.evaluate(data, NOW)
            _check(batch)
            again = engine.evaluate(data, NOW)
            assert (again.records, again.trace_requests) == (batch.records, batch.trace_requests)


def otlp_json(data: bytes) -> None:
    """Spans in JSON, as over HTTP, and what they are in protobuf."""
    with suppress(InvalidData):
        evaluate(transcode(data))


def recorded(data: bytes) -> None:
    """A file of any kind that `preview` and `discover` read."""
    with suppress(InvalidData):
        told = preview(EVERYTHING, recorded_request(data), NOW).as_json()
        assert set(told) == {"spans", "requests", "usage", "quarantined", "unbilled", "unmatched_requests"}
    survey = Survey(values=True, widest=3)
    with suppress(InvalidData):
        for piece in recorded_pieces(io.BytesIO(data)):
            survey.add(piece)
    found = survey.finish()
    as_json(found, values=True)
    starter(found)


def attributes(data: bytes) -> None:
    """Well-formed spans with the attributes that policies read and values of every kind, chosen by the bytes."""
    evaluate(b"".join(chosen_requests(data)))


TWINS: Final = Twins(EVERYTHING.span_keys) if COMPILED else None


def reader(data: bytes) -> None:
    """Spans in protobuf, read by both readers, where there are two."""
    if TWINS is not None:
        TWINS.check(data)


def _check(batch: UsageBatch) -> None:
    for record in (*batch.records, *(request.record for request in batch.trace_requests)):
        assert len(record.trace_id) == 16
        assert len(record.span_id) == 8
        assert record.at_ns <= NOW
        assert (record.user is None) == (record.reason is Reason.NO_USER)
        if record.user is not None:
            assert record.user == record.user.strip()
            assert record.user not in PLACEHOLDERS
            assert len(record.user) <= MAX_USER_LENGTH
            record.user.encode()
    for record in batch.records:
        if record.reason is None:
            assert record.quantity is not None
            assert record.quantity >= 0


SUBJECTS: Final[dict[str, Callable[[bytes], None]]] = {
    "evaluate": evaluate,
    "reader": reader,
    "json": otlp_json,
    "recorded": recorded,
    "attributes": attributes,
}
"""By the name that `make fuzz` has for them."""
