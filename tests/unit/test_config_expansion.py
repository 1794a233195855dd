"""`${env:NAME}` in configurations, by example."""

from decimal import Decimal
from typing import Any

import pytest

from otel_usageflow.config.expand import expand

ENVIRONMENT = {
    "TEXT": "text",
    "EMPTY": "",
    "NUMBER": "10",
    "ZERO": "0123",
    "DECIMAL": "0.10",
    "FLAG": "true",
    "LIST": "[a, 1]",
    "DOLLAR": "pa$$word ${TEXT}",
    "COMMENT": "abc # def",
    "QUOTED": '"abc"',
    "BROKEN": "[a",
}

TABLE: list[tuple[str, Any]] = [
    ("${env:TEXT}", "text"),
    ("${TEXT}", "text"),
    ("a ${env:TEXT} b ${TEXT}", "a text b text"),
    ("${env:NUMBER}", 10),
    ("x${env:NUMBER}", "x10"),
    ("${env:DECIMAL}", Decimal("0.10")),
    ("${env:FLAG}", True),
    ("${env:LIST}", ["a", 1]),
    ("${env:ZERO}", "0123"),
    ("${env:EMPTY}", None),
    ("${env:NOPE}", None),
    ("a${env:NOPE}b", "ab"),
    ("${env:NOPE:-default}", "default"),
    ("${NOPE:-default}", "default"),
    ("${env:NOPE:-}", None),
    ("${env:NOPE:-5}", 5),
    ("${env:NOPE:-127.0.0.1:4317}", "127.0.0.1:4317"),
    ("${env:EMPTY:-default}", None),
    ("x${env:EMPTY:-default}", "x"),
    ("${env:NOPE:-${env:TEXT}}", "text"),
    ("${env:NOPE:-a${env:NOPE2:-b}}c", "abc"),
    ("${env:NOPE:-{a: 1}}", {"a": 1}),
    ("$$", "$"),
    ("$${env:TEXT}", "${env:TEXT}"),
    ("$$${env:TEXT}", "$text"),
    ("$TEXT", "$TEXT"),
    ("100$", "100$"),
    ("${env:DOLLAR}", "pa$$word ${TEXT}"),
    ("${env:COMMENT}", "abc # def"),
    ("${env:QUOTED}", '"abc"'),
    ("${env:BROKEN}", "[a"),
]


@pytest.mark.parametrize(("text", "expected"), TABLE, ids=[text for text, _ in TABLE])
def test_table(text: str, expected: Any) -> None:
    """A whole expansion has the type that YAML gives it; within text it is text."""
    result = expand({"a": [text]}, ENVIRONMENT)
    assert result.tree == {"a": [expected]}
    assert type(result.tree["a"][0]) is type(expected)
    assert not result.problems


def test_text_is_kept() -> None:
    """Beside a number, its text is kept for fields that want text."""
    result = expand({"a": "${env:NUMBER}", "b": "${env:TEXT}"}, ENVIRONMENT)
    assert result.texts == {("a",): "10"}


def test_unset_and_empty_are_known() -> None:
    """Variables without a value are known by place, so that a message can name them."""
    result = expand({"a": "x${env:NOPE}", "b": ["${env:EMPTY}"], "c": "${env:NOPE:-1}"}, ENVIRONMENT)
    assert result.unset == {("a",): ["NOPE"]}
    assert result.empty == {("b", 0): ["EMPTY"]}


def test_keys_are_not_expanded() -> None:
    """Only values are expanded."""
    assert expand({"${TEXT}": 1}, ENVIRONMENT).tree == {"${TEXT}": 1}


def test_not_utf8() -> None:
    """A variable that is no UTF-8 is reported by name."""
    result = expand({"a": "${env:BAD}"}, {"BAD": "\udcff"})
    assert [str(problem) for problem in result.problems] == ["a: the environment variable BAD is not valid UTF-8"]
