"""Whatever spans hold: the starter file is valid, previews, and no value that could be a user is told."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from outside import command
from span_builder import any_value, payload, span

from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.discovery.facts import Facts
from otel_usageflow.policy.discovery.starter import starter
from otel_usageflow.policy.discovery.survey import Survey
from otel_usageflow.policy.review import problems, remarks

SECRET = "zq7"
"""What every value that could be a user holds, and nothing else does."""

_letters = st.text("abcxyz", min_size=1, max_size=3)
_values = st.builds(lambda head, tail: f"{head}{SECRET}{tail}", _letters, _letters)
_names = st.sampled_from(["x-account-id", "x-api-key", "X_Tenant", "x-other", "authorization", "cookie", "baggage"])
_hostile = st.text(max_size=20) | st.sampled_from(
    ["${env:HOME}", "$", "a: b\n- c", "# x", "yes", "\u2028", "\U000e0001", "*", '"']
)


@st.composite
def _headers(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in draw(st.lists(_names, max_size=3)):
        value = draw(_values)
        form = {
            "authorization": f"Bearer {value}",
            "cookie": f"user={value}; b={value}",
            "baggage": f"account.id={value}",
        }
        made[f"http.request.header.{name}"] = [form.get(name, value)]
    return made


_paths = st.one_of(
    st.builds(lambda value: f"/users/{value}", _values),
    st.builds(lambda value, n: f"/things/{value}@example.com/{n}", _values, st.integers(0, 99)),
    st.builds(lambda value: f"/things/{value}{'0' * 5}", _values),
    st.sampled_from(["/", "/chat", "//", "/healthz", "/a/b/", "/docs/a.html"]),
)
_private = st.builds(
    lambda path, value, headers, body, own: {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.path": path,
        "url.query": f"account={value}&{value}&{value}x={value}",
        "http.request.body.content": body,
        "enduser.id": own,
        "my.plan": own,
        **headers,
    },
    _paths,
    _values,
    _headers(),
    st.builds(lambda value: json.dumps({"user": {"id": value}, value: value}), _values),
    _values,
)
_any_attributes = st.dictionaries(
    st.one_of(
        st.sampled_from(
            [
                "http.request.method",
                "http.method",
                "http.route",
                "url.path",
                "http.target",
                "http.url",
                "url.query",
                "http.response.status_code",
                "enduser.id",
                "tls.client.subject",
                "http.request.header.x-account-id",
                "http.request.header.authorization",
                "http.request.body.content",
                "rpc.system",
                "rpc.service",
                "rpc.method",
                "rpc.grpc.status_code",
                "rpc.request.metadata.x-account-id",
            ]
        ),
        _hostile,
    ),
    st.one_of(
        _hostile,
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.floats(),
        st.binary(max_size=5),
        st.lists(_hostile, max_size=2),
        st.none(),
        st.sampled_from(
            ["GET", "/a/b", 200, "Bearer a.eyJzdWIiOiJ4In0.b", "Basic YTpi", '{"user": {"id": 1}}', "/a/{id}", "/:x"]
        ),
        st.sampled_from(["grpc", "shop.Orders", "Get", "shop.Orders/Get", "a/b/c", 0]),
    ),
    max_size=8,
)


@given(st.lists(_private, min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_no_value_is_told(requests: list[dict[str, Any]]) -> None:
    """Neither the tables, nor the JSON, nor the starter file holds a value, unless it is asked for."""
    data = payload(*(span(attributes) for attributes in requests))
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "starter.yaml")
        table = command("discover", "--input", "-", "--output", output, stdin=data)
        told = command("discover", "--input", "-", "--format", "json", stdin=data)
        assert (table.status, told.status) == (0, 0)
        for text in (table.out, told.out, output.read_text()):
            assert SECRET not in text
    asked = command("discover", "--input", "-", "--values", stdin=data)
    assert SECRET in asked.out


@given(st.lists(st.tuples(_any_attributes, _hostile, st.booleans()), max_size=5))
@example([({"http.route": "/:x"}, "", True), ({"url.path": "0"}, "", True)])
@example([({"http.route": "/:a/:b"}, "", True), ({"http.route": "/:c/d"}, "", True)])
@example([({"http.route": "0", "http.request.header.authorization": "0"}, "", True)])
@settings(deadline=None, max_examples=120)
@pytest.mark.timeout(600)  # where it fails, Hypothesis looks for the smallest example for up to five minutes
def test_the_starter_file_is_always_valid(requests: list[tuple[dict[str, Any], str, bool]]) -> None:
    """Whatever anybody writes into spans, the file validates without a word, previews, and names no variable."""
    data = b"".join(
        payload(
            span(attributes | ({"http.request.method": "GET", "http.response.status_code": 200} if http else {})),
            service=text,
            scope=text,
        )
        for attributes, text, http in requests
    )
    with tempfile.TemporaryDirectory() as directory:
        output, spans = Path(directory, "starter.yaml"), Path(directory, "spans.pb")
        spans.write_bytes(data)
        assert command("discover", "--input", spans, "--output", output).status == 0
        result = command("validate", "--config", output)
        assert (result.status, result.out, result.err) == (0, "", "")
        policies = yaml.safe_load(output.read_text())["processors"]["usage_policy"]["policies"]
        assert all("${env:" not in one["endpoint"].replace("$$", "") for one in policies)
        result = command("preview", "--config", output, "--input", spans, "--format", "json")
        assert (result.status, result.err) == (0, "")


_parts = st.sampled_from(
    ["a", "b", "me", "users", "7", ":x", "{y}", "<int:z>", "*", "**", "*rest", "{p:path}", "", ":"]
)
_routes = st.none() | st.lists(_parts, max_size=4).map(lambda parts: "/" + "/".join(parts))
_asked = st.none() | st.lists(st.sampled_from(["a", "b", "me", "users", "zoe", "7", ""]), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(
    st.lists(st.tuples(st.sampled_from(["GET", "POST", None]), _routes, _asked), max_size=12),
    st.integers(1, 3),
)
@settings(deadline=None, max_examples=300)
def test_every_policy_of_the_starter_file_can_bill(
    requests: list[tuple[str | None, str | None, str | None]], widest: int
) -> None:
    """Whatever frameworks call their routes: no policy stands behind one that takes all of its requests."""
    survey = Survey(widest=widest)
    for method, route, path in requests:
        named = {"http.request.method": method, "http.route": route, "url.path": path}
        given = {key: value for key, value in named.items() if value is not None}
        survey.add(payload(span(given | {"http.response.status_code": 200, "enduser.id": "u"})))
    found = survey.finish()
    written = yaml.safe_load(starter(found).replace("$$", "$"))["processors"]["usage_policy"]["policies"]
    policies = [PolicyConfig.model_validate(one) for one in written]
    assert [*problems(policies), *remarks(policies, ())] == []
    assert sum(one.requests for one in found.endpoints.values()) + found.without_path == len(requests)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_attribute_breaks_the_survey(value: bytes, path: bytes) -> None:
    """Broken UTF-8 and any bytes where text is expected are counted, not stumbled over."""
    made = span({"http.request.method": "GET"})
    for name, one in (
        ("url.path", path),
        ("enduser.id", value),
        ("http.request.header.authorization", b"Basic " + value),
    ):
        attribute = made.attributes.add(key=name)
        attribute.value.CopyFrom(any_value(one))
    survey = Survey()
    raw = payload(made)
    # A text on the wire may hold any bytes; the official library would not let us write them.
    survey.add(raw.replace(b"\x3a" + bytes([len(path)]) + path, b"\x0a" + bytes([len(path)]) + path))
    assert survey.finish().requests == 1


def test_what_a_name_means_is_remembered_within_limits() -> None:
    """Attribute names without end do not fill the memory."""
    facts = Facts()
    for number in range(10_500):
        name = f"my.{number}".encode()
        facts.of_resource([bytes([0x0A, len(name)]) + name])
    assert len(facts._uses) == 10_000
