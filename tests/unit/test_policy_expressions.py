"""Conditions and expressions in CEL: what they see, what they say, and what is refused at start."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from span_builder import NOW, engine, http, judge, only, payload, policy, span

from otel_usageflow.model.usage import Quantity, UsageBatch
from otel_usageflow.policy.expressions.expression import condition, quantity
from otel_usageflow.policy.expressions.fields import FIELDS

USER = {"http.request.header.x-account-id": "acme"}
ROOT = Path(__file__).parents[2]


def under(text: str, attributes: dict[str, Any] | None = None, **where: Any) -> UsageBatch:
    """What becomes of a request to POST /chat under a condition."""
    return judge(http() | USER | (attributes or {}), policy(match={"condition": text}), **where)


def met(text: str, attributes: dict[str, Any] | None = None, **where: Any) -> bool | None:
    """Whether the condition is met; None if it failed, which is counted and not billed."""
    batch = under(text, attributes, **where)
    failed = batch.failed_conditions["chat"]
    assert (len(batch.records), batch.unmatched, failed) in {(1, 0, 0), (0, 1, 0), (0, 1, 1)}
    return None if failed else bool(batch.records)


def amount(text: str, attributes: dict[str, Any] | None = None, **times: int) -> Quantity | str | None:
    """The quantity of a request, or why it is in quarantine."""
    judged = engine(policy(quantity={"expression": text}))
    record = only(judged.evaluate(payload(span(http() | USER | (attributes or {}), **times)), NOW))
    return record.reason or record.quantity


@pytest.mark.parametrize(
    ("text", "attributes", "expected"),
    [
        ("attributes.plan == 'pro'", {"plan": "pro"}, True),
        ("attributes.plan == 'pro'", {"plan": "free"}, False),
        ("attributes['gen_ai.request.model'].startsWith('gpt-')", {"gen_ai.request.model": "gpt-5"}, True),
        ("attributes.plan.matches('(?i)^PRO$')", {"plan": "pro"}, True),
        ("attributes.n > 2 && attributes.x < 2.5", {"n": 3, "x": 2.0}, True),
        ("attributes.n == 2.0", {"n": 2}, True),
        ("attributes.ok", {"ok": True}, True),
        ("'b' in attributes.list", {"list": ["a", "b"]}, True),
        ("attributes.list.exists(one, one == 2)", {"list": [1, 2]}, True),
        ("attributes.exists(key, key.startsWith('tenant.'))", {"tenant.id": "x"}, True),
        ("attributes.exists(key, key.startsWith('tenant.'))", {}, False),
        ("size(attributes.name) == 2", {"name": "é😀"}, True),
        ("attributes.raw == b'ab'", {"raw": b"ab"}, True),
        ("has(attributes.plan)", {}, False),
        ("'plan' in attributes", {"plan": ""}, True),
        ("!('plan' in attributes) || attributes.plan != 'free'", {}, True),
        ("attributes.missing == 1 || true", {}, True),
        ("attributes.missing == 1 && false", {}, False),
        ("true", {}, True),
        ("math.greatest(attributes.a, 3) == 3", {"a": 1}, True),
    ],
)
def test_a_condition_narrows(text: str, attributes: dict[str, Any], expected: bool) -> None:
    """A request is the policy's only where the condition is true."""
    assert met(text, attributes) is expected


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("attributes.missing == 1", {}),
        ("attributes.plan == 'pro' && attributes.n > 1", {"plan": "pro"}),
        ("attributes.n > 1", {"n": "2"}),
        ("attributes.n", {"n": "true"}),
        ("attributes.n", {"n": 1}),
        ("1 / attributes.n == 1", {"n": 0}),
        ("attributes.n + 1 > 0", {"n": 2**63 - 1}),
        ("attributes.list[3] == 1", {"list": [1]}),
        ("attributes.name.matches(attributes.name)", {"name": "("}),
        ("int(attributes.n) == 1", {"n": "one"}),
    ],
)
def test_a_condition_that_fails_is_false_and_counted(text: str, attributes: dict[str, Any]) -> None:
    """A missing attribute or an error at run time takes nobody's request, and shows in the counts."""
    assert met(text, attributes) is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": 1},
        [["a"]],
        ["a", None],
        "x" * 65_537,
        [0] * 1_001,
        b"x" * 65_537,
    ],
)
@pytest.mark.parametrize("text", ["has(attributes.v)", "attributes.exists(key, key == 'v')"])
def test_what_has_no_plain_form_is_absent(text: str, value: Any) -> None:
    """Empty values, maps, nested lists and what is too large are not seen, and spoil nothing else."""
    assert met(text, {"v": value}) is False
    assert met(text.replace("'v'", "'w'").replace(".v", ".w"), {"v": value, "w": "x"}) is True


def test_text_that_is_not_utf_8_is_absent() -> None:
    """Broken text of one attribute is not seen, and the others are."""
    attributes = http() | USER | {"v": "broken", "w": 1}
    data = payload(span(attributes)).replace(b"broken", b"bro\xffen")
    for text, records in (("has(attributes.v)", 0), ("has(attributes.w)", 1), ("attributes.exists(k, k == 'w')", 1)):
        batch = engine(policy(match={"condition": text})).evaluate(data, NOW)
        assert (len(batch.records), batch.failed_conditions.total()) == (records, 0)


def test_the_resource_is_seen() -> None:
    """Its attributes are under `resource`, by name and by loop; those of the span are not."""
    resource = {"deployment.environment.name": "prod", "region": "eu"}
    for text in ("resource['deployment.environment.name'] == 'prod'", "resource.exists(k, resource[k] == 'eu')"):
        assert met(text, {}, resource=resource) is True
        assert met(text, {}, resource={"deployment.environment.name": "test"}) is False
    assert met("has(resource.plan)", {"plan": "pro"}) is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("span.method == 'POST' && span.path == '/chat' && span.status == 200", True),
        ("span.route == '/chat'", None),
        ("has(span.route)", False),
        ("span.host == 'api.example.com'", True),
        ("span.service == 'shop' && span.scope == 'tests'", True),
        ("span.duration_ns == 1000000000 && span.duration_seconds == 1.0", True),
        ("span.ended_ns - span.started_ns == span.duration_ns", True),
        ("timestamp(span.ended_ns / 1000000000).getFullYear() == 2027", True),
        ("size(span.trace_id) == 32 && size(span.span_id) == 16", True),
    ],
)
def test_the_fields_of_the_span(text: str, expected: bool | None) -> None:
    """`span` is the request as policies see it, whatever the conventions; what it has not is absent."""
    assert met(text, {"server.address": "API.example.com:443"}) is expected


@pytest.mark.parametrize("old", [{"http.method": "POST", "http.target": "/chat?a=b", "http.status_code": 200}])
def test_old_conventions_give_the_same_span(old: dict[str, Any]) -> None:
    """A condition over `span` need not know of old and new names."""
    text = "span.method == 'POST' && span.path == '/chat' && span.status == 200"
    assert len(judge(old | USER, policy(match={"condition": text})).records) == 1


def test_a_span_without_a_plausible_start_has_no_duration() -> None:
    """What ended before it started, or has no start, took no known time: `bad_quantity`, not 0."""
    assert amount("span.duration_ns", start=NOW - 7, end=NOW - 2) == 5
    assert amount("span.duration_ns", start=NOW - 2, end=NOW - 7) == "bad_quantity"
    assert amount("span.duration_seconds", start=0, end=NOW) == "bad_quantity"


@pytest.mark.parametrize(
    ("text", "attributes", "expected"),
    [
        ("attributes.a + attributes.b", {"a": 2, "b": 3}, 5),
        ("9223372036854775807 / 100", {}, 92233720368547758),
        ("uint(attributes.a)", {"a": 2}, 2),
        ("attributes.a * 0.1", {"a": 3.0}, Decimal("0.30000000000000004")),
        ("0.1", {}, Decimal("0.1")),
        ("double(attributes.a)", {"a": 12}, 12),
        ("attributes.a", {"a": "12.50"}, Decimal("12.5")),
        ("int(attributes.a)", {"a": "12"}, 12),
        ("(span.duration_ns + 59999999999) / 60000000000", {}, 1),
        ("has(attributes.a) ? attributes.a : 1", {}, 1),
        ("attributes.a > 10 ? 2 : 1", {"a": 11}, 2),
        ("-0.0", {}, 0),
        ("0", {}, 0),
    ],
)
def test_an_expression_is_an_exact_quantity(text: str, attributes: dict[str, Any], expected: Quantity) -> None:
    """Integers stay integers, and a double is the shortest decimal that is this double."""
    result = amount(text, attributes)
    assert (result, type(result)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("attributes.missing", {}),
        ("attributes.a + attributes.b", {"a": 1}),
        ("attributes.a + attributes.b", {"a": 1, "b": 2.0}),
        ("attributes.a", {"a": True}),
        ("attributes.a", {"a": "many"}),
        ("attributes.a", {"a": "-1"}),
        ("attributes.a", {"a": [1, 2]}),
        ("attributes.a - 5", {"a": 1}),
        ("1.0 / attributes.a", {"a": 0.0}),
        ("attributes.a * attributes.a", {"a": 2**40}),
        ("attributes.a / 0", {"a": 1}),
        ("1000000000000000000", {}),
        ("double(attributes.a)", {"a": "nan"}),
        ("1e-19", {}),
    ],
)
def test_an_expression_without_a_number_is_quarantined(text: str, attributes: dict[str, Any]) -> None:
    """What fails, is no number, negative, infinite or too large is `bad_quantity`, and never dropped."""
    assert amount(text, attributes) == "bad_quantity"


def test_no_user_goes_before_a_bad_quantity() -> None:
    """A request without a user is `no_user`, whatever its expression says."""
    batch = judge(http(), policy(quantity={"expression": "attributes.missing"}))
    assert only(batch).reason == "no_user"


def test_a_failing_condition_leaves_the_request_to_the_next_policy() -> None:
    """Of two policies with one event name, the second takes what the first could not decide."""
    batch = judge(
        http() | USER, policy(name="a", match={"condition": "attributes.x == 1"}), policy(name="b", quantity=2)
    )
    assert (only(batch).terms.policy, batch.failed_conditions) == ("b", {"a": 1})


def test_a_condition_stands_beside_the_rest_of_match() -> None:
    """All that is written must hold, and the condition is asked last."""
    both = policy(match={"attributes": {"plan": "pro"}, "condition": "attributes.n > 1"})
    assert len(judge(http() | USER | {"plan": "pro", "n": 2}, both).records) == 1
    batch = judge(http() | USER | {"plan": "free"}, both)
    assert (batch.unmatched, batch.failed_conditions.total()) == (1, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("attribute.plan == 'pro'", "line 1, column 10: attribute is not known; did you mean attributes?"),
        ("span.staus == 200", "line 1, column 5: span has no field staus; did you mean status? (known: duration_ns"),
        ("span.method == 'GET' &&\n  span.status == '200'", "line 2, column 15: == does not take (int, string)"),
        ("span['method'] == 'GET'", "line 1, column 5: [] does not take (span, string)"),
        ("attributes.a +", "line 1, column 15: Syntax error"),
        ("nosuch(attributes.a)", "line 1, column 7: nosuch is not known"),
        (
            "attributes.gen_ai.usage.input_tokens > 1",
            "an attribute has no fields, but its name may hold dots; write attributes['gen_ai.usage.input_tokens']",
        ),
        ("has(resource.a.b)", "write resource['a.b']"),
        ("span.path.matches('(a')", "line 1, column 19: '(a' is no regular expression of RE2: missing )"),
        ("1 + 1", "gives int, but has to give true or false"),
        (f"{'(' * 40}true{')' * 40}", "is nested more than 32 levels deep"),
        ("true || " * 2000 + "true", "is longer than 8192 characters"),
        ("'\ud800' == ''", "is not valid Unicode"),
    ],
)
def test_a_wrong_condition_is_refused_at_start(text: str, says: str) -> None:
    """Syntax, types, unknown names and fields: found when the configuration is read, with line and column."""
    with pytest.raises(ValidationError) as caught:
        policy(match={"condition": text})
    (error,) = caught.value.errors()
    assert error["loc"] == ("match", "condition")
    assert says in error["msg"]


@pytest.mark.parametrize("text", ["span.method", "true", "duration('1s')", "[1]", "attributes", "null"])
def test_an_expression_has_to_be_a_number(text: str) -> None:
    """What can never be a quantity is refused at start; what may be one at run time is not."""
    with pytest.raises(ValueError, match="has to give a number"):
        quantity(text)


def test_only_one_way_to_measure() -> None:
    """A quantity is an attribute, a sum, or an expression."""
    with pytest.raises(ValidationError, match="write either attribute: KEY"):
        policy(quantity={"attribute": "a", "expression": "1"})


@pytest.mark.parametrize(
    ("text", "span_keys", "resource_keys"),
    [
        ("attributes.a == 1 && attributes['b.c'] == resource.d && 'e' in attributes", {"a", "b.c", "e"}, {"d"}),
        ("attributes.exists(k, k == 'a')", set(), set()),
        ("attributes[resource.key] == attributes.a", set(), {"key"}),
        ("[1].exists(attributes, attributes == 1)", set(), set()),
        (
            "attributes.l.exists(x, x == attributes.m || resource.n == {'a': [attributes.o]}['a'][0])",
            {"l", "m", "o"},
            {"n"},
        ),
        ("span.status == 200", set(), set()),
    ],
)
def test_only_what_is_named_is_read(text: str, span_keys: set[str], resource_keys: set[str]) -> None:
    """Keys that stand in the text are all that is decoded; all attributes only where keys are worked out."""
    compiled = condition(text)
    assert (compiled.span_keys, compiled.resource_keys) == (span_keys, resource_keys)


def test_an_evaluation_is_bounded() -> None:
    """A loop in a loop over what a caller sent, and a regular expression with nested repeats, end at once."""
    assert met("attributes.l.all(a, attributes.l.all(b, a == b))", {"l": [1] * 1000}) is None
    assert met("attributes.s.matches('(a+)+$')", {"s": "a" * 60_000 + "b"}) is False


def test_every_field_is_in_the_docs() -> None:
    """docs/policies.md has a line for each field of `span`, and for no other."""
    page = (ROOT / "docs" / "policies.md").read_text()
    assert set(re.findall(r"^\| `span\.(\w+)` \|", page, re.MULTILINE)) == FIELDS.keys()
