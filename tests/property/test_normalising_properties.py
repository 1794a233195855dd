"""What is normalised once stays as it is: methods, names of headers, and the spelling of what a policy names."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from span_builder import engine, http, judge, only, payload, policy, span, user_of

from otel_usageflow.model.attributes import Wanted
from otel_usageflow.policy.http import METHODS, method
from otel_usageflow.policy.sources.header import header_keys
from otel_usageflow.policy.text import PLACEHOLDERS, user_text
from otel_usageflow.proto.spans.v1.spans_pb2 import Request

NOW = 1_800_000_000_000_000_000
TOKENS = st.text("abcXYZ0189-_.", min_size=1, max_size=12)
SPACE = st.text(" \t\n\r\u00a0\u2003", max_size=3)


def read_method(value: Any, key: str) -> str | None:
    """The method as the package reads it from the wire."""
    request = Request.FromString(payload(span([(key, value), ("url.path", "/")])))
    return method(Wanted(METHODS).find(request.resource_spans[0].scope_spans[0].spans[0].attributes))


@given(st.text(max_size=10) | st.sampled_from(["get", "Post", "_OTHER", "PATCH "]), st.sampled_from(METHODS))
def test_a_method_is_normalised_once(text: str, key: str) -> None:
    """In capitals, a method is what it was; in any convention."""
    once = read_method(text, key)
    if once is not None and once.isascii():
        assert read_method(once, key) == once
        assert read_method(once.lower(), key) == once


@given(TOKENS)
def test_a_header_is_one_in_any_spelling(name: str) -> None:
    """Dashes, underscores and capitals in a policy make no difference to which header it reads."""
    spelled = [name.replace("-", "_"), name.replace("_", "-"), name.upper(), f" {name} "]
    attributes = {f"http.request.header.{name.lower()}": ["acme"]}
    try:
        written = policy(user={"header": name}).user[0].model_dump(exclude_defaults=True)["header"]
    except ValidationError:
        return
    assert policy(user={"header": written}).user[0].model_dump(exclude_defaults=True)["header"] == written
    assert {user_of(attributes, {"header": one}) for one in (name, *spelled[2:])} == {"acme"}
    keys = set(header_keys(written, metadata=True))
    assert {one.replace("_", "-") for one in keys} == {
        one.replace("_", "-") for one in header_keys(name.lower(), metadata=True)
    }


@given(st.text(max_size=20), SPACE, SPACE)
def test_space_around_a_user_is_no_part_of_it(text: str, before: str, after: str) -> None:
    """Trimmed once or twice, on the wire or not, it is one user."""
    user = user_text([before + text + after], PLACEHOLDERS)
    assert user == user_text([text.strip()], PLACEHOLDERS)
    assert user == (None if user is None else user_text([user], PLACEHOLDERS))
    if "\x00" not in text:
        batch = judge(http() | {"enduser.id": before + text + after}, policy(user={"metadata": "enduser.id"}))
        assert only(batch).user == user


@given(st.permutations(["x", "y", "z"]), st.sampled_from(["GET|POST", "post|GET|get"]))
def test_how_a_policy_is_spelled_changes_nothing(names: list[str], methods: str) -> None:
    """Other names of parameters, the order of methods, a slash at the end: the same requests, the same users."""
    spelled = [
        f"{methods} /a/:{names[0]}/*/{{{names[1]}}}",
        f"{'|'.join(reversed(methods.split('|')))} /a/{{{names[2]}}}/:w/:{names[0]}/",
    ]
    sources = [{"path": names[0]}, {"path": names[2]}]
    data = payload(span(http("/a/acme/b/c")), span(http("/a/b")), span(http("/a/zoe/%2F/d/", method="get")))
    users = [
        [record.user for record in engine(policy(endpoint=one, user=source)).evaluate(data, NOW).records]
        for one, source in zip(spelled, sources, strict=True)
    ]
    assert users == [["acme", "zoe"]] * 2
