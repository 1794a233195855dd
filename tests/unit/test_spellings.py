"""One policy reads every vendor's spelling. The attributes are built from the reference, chapters 3.1 and 6."""

import re
from typing import Any

import pytest
from documents import ROOT
from span_builder import http, judge, only, policy

from otel_usageflow.model.usage import Reason
from otel_usageflow.policy.spellings import INPUT, OUTPUT, TABLE, TOTAL, current, spellings

USER = {"http.request.header.x-account-id": "acme"}
NUMBERS = [row for row in TABLE if "model" not in row[0].key and "provider" not in row[0].key]
TEXTS = [row for row in TABLE if row not in NUMBERS]


def bill(attributes: dict[str, Any], quantity: Any) -> Any:
    """The quantity of one request with these attributes."""
    return only(judge(http() | USER | attributes, policy(quantity=quantity))).quantity


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row[0].key)
def test_a_policy_in_any_spelling_reads_all_of_them(row: Any) -> None:
    """Whatever a policy names and whatever a span holds, it is the same thing."""
    for written in row:
        for held in row:
            assert bill({held.key: 7}, {"attribute": written.key}) == 7


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row[0].key)
def test_several_spellings_never_add_up(row: Any) -> None:
    """On one span the spelling that the policy names counts, then the first in the table."""
    held = {one.key: 100 + place for place, one in enumerate(row)}
    for place, written in enumerate(row):
        assert bill(held, {"attribute": written.key}) == 100 + place
        others = {key: value for key, value in held.items() if key != written.key}
        assert bill(others, {"attribute": written.key}) == min(others.values())
        assert bill(dict(reversed(others.items())), {"attribute": written.key}) == min(others.values())


def test_an_empty_value_is_no_spelling_but_a_bad_one_is() -> None:
    """A key without a value says nothing; one with a value that is no number is not passed over."""
    assert bill({INPUT: None, "llm.token_count.prompt": 5}, {"attribute": INPUT}) == 5
    assert bill({INPUT: "many", "llm.token_count.prompt": 5}, {"attribute": INPUT}) is None


@pytest.mark.parametrize("value", [5, 5.0, "5", [5]])
def test_numbers_come_in_all_their_types(value: Any) -> None:
    """Integers, the doubles of some JavaScript libraries, and PHP's and Envoy's strings are one amount."""
    assert bill({"llm.token_count.prompt": value}, {"attribute": INPUT}) == 5


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: row[0].key)
def test_payload_keys_and_matches_read_all_spellings(row: Any) -> None:
    """The model of a meter event, and the tier by a model, do not depend on the vendor."""
    key = row[0].key
    for held in row:
        record = only(
            judge(
                http() | USER | {held.key: "small"},
                policy(payload={"m": {"attribute": key}}, match={"attributes": {key: ["small", "tiny"]}}),
            )
        )
        assert record.payload == (("m", "small"),)
    assert judge(http() | USER | {row[-1].key: "large"}, policy(match={"attributes": {key: "small"}})).unmatched == 1


def test_the_span_comes_before_the_resource_in_every_spelling() -> None:
    """What the span says in an old spelling counts before what the resource says in the current one."""
    rule = policy(payload={"m": {"attribute": "gen_ai.request.model"}}, match={"attributes": {PROVIDER: "a"}})
    attributes = http() | USER | {"llm.model_name": "mine", "gen_ai.system": "a"}
    record = only(judge(attributes, rule, resource={"gen_ai.request.model": "theirs", PROVIDER: "b"}))
    assert record.payload == (("m", "mine"),)
    assert only(judge(http() | USER, rule, resource={"gen_ai.system": "a"})).payload == ()


PROVIDER = "gen_ai.provider.name"


def test_expressions_read_what_they_name() -> None:
    """CEL is exact about names: no other spelling is read for it."""
    rule = {"expression": f"attributes['{INPUT}'] * 2"}
    assert bill({INPUT: 5}, rule) == 10
    record = only(judge(http() | USER | {"llm.token_count.prompt": 5}, policy(quantity=rule)))
    assert record.reason is Reason.BAD_QUANTITY


def test_a_name_without_other_spellings_is_itself() -> None:
    """The table adds nothing to attributes of one's own, and the first spelling of a row is the current one."""
    assert spellings("my.tokens") == ("my.tokens",)
    assert current("my.tokens") == "my.tokens"
    assert {current(one.key) for row in NUMBERS for one in row} == {row[0].key for row in NUMBERS}
    assert spellings("llm.token_count.prompt")[:2] == ("llm.token_count.prompt", INPUT)


def test_a_spelling_means_one_thing() -> None:
    """No name stands in two rows, but for OpenInference's one name for the requested and the answering model."""
    keys = [one.key for row in TABLE for one in row]
    twice = {key for key in keys if keys.count(key) > 1}
    assert twice == {"llm.model_name", "embedding.model_name"}
    assert {OUTPUT, TOTAL} <= set(keys)


def test_every_spelling_is_documented() -> None:
    """The table of the docs is the table of the code: its rows and its order."""
    page = (ROOT / "docs/quantities.md").read_text().partition("## Spellings")[2]
    rows = [re.findall(r"`([^`]+)`", line) for line in page.splitlines() if line.startswith("| `")]
    assert rows == [[one.key for one in row] for row in TABLE]
