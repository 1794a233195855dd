"""What holds for every duration, every expansion and every merge."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from otel_usageflow.config.expand import expand
from otel_usageflow.config.merge import merge
from otel_usageflow.config.redact import redacted
from otel_usageflow.config.types import format_duration, parse_duration
from otel_usageflow.config.yaml_reader import NotYaml, read_yaml

_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}

keys = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30)
scalars = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | decimals | texts
trees = st.recursive(
    scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(keys, below, max_size=3), max_leaves=12
)
maps = st.dictionaries(keys, trees, max_size=4)


@given(st.integers(0, 10**15).map(lambda microseconds: timedelta(microseconds=microseconds)))
def test_durations_read_back(value: timedelta) -> None:
    """A duration that was written reads back as itself."""
    assert parse_duration(format_duration(value)) == value


@given(st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(sorted(_UNITS))), min_size=1, max_size=4))
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    """A duration of several parts is their sum."""
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_duration(text) == timedelta(microseconds=sum(number * _UNITS[unit] for number, unit in parts))


@given(texts.filter(lambda text: "$" not in text))
def test_text_without_dollar_is_left_alone(text: str) -> None:
    """Nothing changes in a text without a dollar."""
    assert expand(text, {}).tree == text


@given(texts)
def test_doubled_dollars_are_literal(text: str) -> None:
    """A text whose dollars are doubled comes out as it was."""
    result = expand(text.replace("$", "$$"), {})
    assert result.tree == text
    assert not result.problems


@given(texts, texts.filter(lambda text: "$" not in text), texts.filter(lambda text: "$" not in text))
def test_variables_are_taken_as_they_are(value: str, before: str, after: str) -> None:
    """Within text, a variable stands for exactly what it holds, dollars and braces included."""
    result = expand(f"<{before}${{env:NAME}}{after}", {"NAME": value})
    assert result.tree == f"<{before}{value}{after}"


@given(texts)
def test_whole_expansions_keep_their_text(value: str) -> None:
    """A whole expansion is text as it was, or its text is kept beside it."""
    result = expand("${env:NAME}", {"NAME": value})
    assert result.tree == value or result.texts[()] == value


@given(texts)
def test_expansion_never_crashes(text: str) -> None:
    """Any text is expanded or reported."""
    result = expand({"a": text}, {"A": "1"})
    assert result.tree["a"] is not None or result.problems or result.unset or "$" in text


@given(maps, maps, maps)
def test_merge_is_associative(first: Any, second: Any, third: Any) -> None:
    """Merging files pairwise gives the same whichever pair comes first, when no map meets a non-map."""
    left = merge(merge(first, second), third)
    for key in left:
        if all(isinstance(tree.get(key, {}), dict) for tree in (first, second, third)):
            assert left[key] == merge(first, merge(second, third))[key]


@given(maps)
def test_merge_has_a_neutral_element(tree: Any) -> None:
    """Nothing laid over a configuration, or under it, changes it."""
    assert merge(tree, {}) == tree == merge({}, tree) == merge(tree, tree)


@given(maps, maps)
def test_later_wins(base: Any, over: Any) -> None:
    """Every value of the later file that is no map is in the result; nothing else of the earlier file is lost."""
    merged = merge(base, over)
    for key, value in over.items():
        assert isinstance(value, dict) or merged[key] == value
    assert set(merged) == set(base) | set(over)


@given(maps)
@example({"${": "${", "$$": ["$$"]})
@example({"a": "0E0", "b": "0o7", "c": "1_0", "d": "<<", "e": "12:30"})
def test_printed_configurations_read_back(tree: Any) -> None:
    """What print-config writes reads back, through YAML and expansion, as the same values."""
    assert expand(read_yaml(redacted(tree, ())), {}).tree == tree


@given(st.text())
def test_yaml_never_crashes(text: str) -> None:
    """Any text is read, or is NotYaml."""
    try:
        tree = read_yaml(text)
    except NotYaml:
        return
    assert isinstance(tree, dict | list | str | int | Decimal | None)


# The other program is PyYAML, which writes YAML 1.1: there 1e3 and 0o7 are text, here and in the Collector numbers.
_numbers_since_1_2 = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+|0o[0-7]+")
texts_of_both = texts.filter(lambda text: not _numbers_since_1_2.fullmatch(text))


@given(st.dictionaries(keys, st.integers() | texts_of_both | st.booleans(), max_size=4))
def test_plain_yaml_means_the_same_to_everybody(tree: Any) -> None:
    """What another program writes as YAML is read as what it meant."""
    assert read_yaml(yaml.safe_dump(tree)) == (tree or {})
