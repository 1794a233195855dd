"""The language of conditions and expressions answers as CEL's definition says.

Source: the CEL language definition (cel-spec, doc/langdef.md), by its chapters. Where another implementation
for Python was found to answer otherwise, docs/adr/0011 names it.
"""

from typing import Any, Final

import pytest

from otel_usageflow.policy.expressions.language import CompileError, compile_text, evaluate

ERROR: Final = "error"
"""Fails when it is evaluated."""
REFUSED: Final = "refused"
"""Fails when it is compiled."""

DATA: Final[dict[str, Any]] = {
    "attributes": {
        "a": 5,
        "b": 2.5,
        "s": "Hello",
        "neg": -3,
        "list": ["x", "y"],
        "big": 2**62,
        "t": True,
        "user.id": "u1",
        "gen_ai.usage.input_tokens": 1200,
        "by": b"ab",
    },
    "resource": {"service.name": "shop"},
    "span": {"method": "GET", "status": 200},
}
CASES: Final[list[tuple[str, Any]]] = [
    # Numeric values and arithmetic: 64 bits, overflows are errors, kinds are not mixed
    ("attributes.a + 1", 6),
    ("attributes['a'] * 2", 10),
    ("attributes.a / 2", 2),
    ("attributes.neg / 2", -1),
    ("attributes.neg % 2", -1),
    ("attributes.b * 2.0", 5.0),
    ("attributes.a + 1.0", ERROR),
    ("1u + 1u", 2),
    ("1u + 1", REFUSED),
    ("attributes.big * 4", ERROR),
    ("9223372036854775807 + 1", ERROR),
    ("0u - 1u", ERROR),
    ("1 / 0", ERROR),
    ("1 % 0", ERROR),
    ("1.0 / 0.0", float("inf")),
    ("-9223372036854775808", -(2**63)),
    ("-(-9223372036854775807 - 1)", ERROR),
    ("-attributes.a", -5),
    ("0.1 + 0.2", 0.1 + 0.2),
    # Equality and ordering across kinds of numbers, as on one line up to 2^53; beyond, the library rounds the int
    ("attributes.a == 5.0", True),
    ("attributes.a < 5.5", True),
    ("dyn(2u) == 2", True),
    ("2u == 2", REFUSED),
    ("0.0 / 0.0 == 0.0 / 0.0", False),
    ("attributes.s == 1", False),
    ("[1, 2] == [1, 2]", True),
    ("{'a': 1} == {'a': dyn(1.0)}", True),
    ("'a' < 1", REFUSED),
    ("attributes.s < 1", ERROR),
    # Logic: commutative, so that an error on one side may not matter
    ("attributes.missing == 1 || true", True),
    ("true || attributes.missing == 1", True),
    ("attributes.missing == 1 && false", False),
    ("attributes.missing == 1 || false", ERROR),
    ("!attributes.t", False),
    ("!attributes.a", ERROR),
    ("attributes.t ? 1 : 2", 1),
    ("attributes.a ? 1 : 2", ERROR),
    # Field selection, indexing and presence
    ("attributes.missing", ERROR),
    ("has(attributes.missing)", False),
    ("has(attributes.a)", True),
    ("'a' in attributes", True),
    ("'missing' in attributes", False),
    ("attributes['gen_ai.usage.input_tokens']", 1200),
    ("has(attributes.missing) && attributes.missing > 1", False),
    ("attributes.list[0]", "x"),
    ("attributes.list[5]", ERROR),
    ("{'a': 1}['a']", 1),
    ("{'a': 1}.b", ERROR),
    ("attributes['a'].b", ERROR),
    # Strings and bytes: sizes in code points
    ("attributes.s.startsWith('He')", True),
    ("attributes.s.endsWith('lo')", True),
    ("attributes.s.contains('ell')", True),
    ("attributes.s.matches('^H.*o$')", True),
    ("matches(attributes.s, 'l+')", True),
    ("size('é😀')", 2),
    ("attributes.s.size()", 5),
    ("size(attributes.by)", 2),
    ("b'ab' == attributes.by", True),
    ("'abc'[0]", REFUSED),
    ("attributes.s + 1", ERROR),
    ("'\\u00e9' == 'é'", True),
    (r"r'\d' == '\\d'", True),
    ("attributes.s < 'I'", True),
    # Macros
    ("attributes.list.exists(v, v == 'y')", True),
    ("attributes.list.all(v, v != 'z')", True),
    ("attributes.list.map(v, v + '!') == ['x!', 'y!']", True),
    ("attributes.list.filter(v, v == 'x') == ['x']", True),
    ("attributes.list.exists_one(v, v == 'x')", True),
    ("attributes.exists(k, k == 'a')", True),
    ("[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]", True),
    ("size(attributes)", 10),
    # Conversions
    ("int('12')", 12),
    ("int('1x')", ERROR),
    ("int(2.9)", 2),
    ("int(-2.9)", -2),
    ("int(1e30)", ERROR),
    ("double(3)", 3.0),
    ("double('2.5')", 2.5),
    ("string(12)", "12"),
    ("string(2.5)", "2.5"),
    ("uint(5)", 5),
    ("uint(-1)", ERROR),
    ("int(true)", REFUSED),
    ("bool('true')", True),
    ("type(1) == int", True),
    ("type(attributes.b) == double", True),
    # Durations and timestamps
    ("duration('1.5s') > duration('1s')", True),
    ("timestamp('2020-01-01T00:00:00Z').getFullYear()", 2020),
    ("timestamp(0) + duration('1h') == timestamp(3600)", True),
    # The math extension
    ("math.greatest(1, 3, 2)", 3),
    ("math.least(1.5, 2.5)", 1.5),
    ("math.ceil(1.2)", 2.0),
    ("math.round(2.5)", 3.0),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=lambda value: str(value)[:40])
def test_cel(text: str, expected: Any) -> None:
    """Each expression has the value, the type and the errors of the definition."""
    if expected is REFUSED:
        with pytest.raises(CompileError):
            compile_text(text)
        return
    result = evaluate(compile_text(text).program, DATA)
    if expected is ERROR:
        assert result is None
    else:
        assert (result, type(result)) == (expected, type(expected))


def test_large_integers_are_rounded_beside_doubles() -> None:
    """Here the library departs from the definition: an integer beyond 2^53 is rounded before the comparison."""
    assert evaluate(compile_text("dyn(9007199254740993) == 9007199254740992.0").program, {}) is True
    assert evaluate(compile_text("dyn(9007199254740993) == 9007199254740992").program, {}) is False
