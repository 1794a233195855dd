"""Stripe's search language, to a test on customers (docs.stripe.com/search#search-query-language)."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from otel_usageflow.testing.stripe.customer import Customer
from otel_usageflow.testing.stripe.failures import StripeFailure, invalid

Test = Callable[[Customer], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<joint>AND|OR)(?=\s)
      | (?P<minus>-)?(?P<field>[a-z_]+)
        (?:\[(?P<key>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\])?
        (?P<operator>:|~|<=|>=|<|>|=)
        (?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|null|-?[0-9]+)
        (?=\s|$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_TEXTS = ("email", "name", "phone")
MOST_CLAUSES = 10


@dataclass(frozen=True, slots=True)
class _Clause:
    negated: bool
    field: str
    key: str | None
    operator: str
    value: str | int | None


def compile_query(query: str) -> Test:
    """Turn a query into a test.

    Raises:
        StripeFailure: 400, it is no query: unreadable, more than ten clauses, AND mixed with OR, an unknown field.
    """
    clauses, joints = _parse(query)
    tests = [_test(clause) for clause in clauses]
    if "OR" in joints:
        return lambda customer: any(test(customer) for test in tests)
    return lambda customer: all(test(customer) for test in tests)


def required_metadata(query: str) -> tuple[str, str] | None:
    """A metadata field and value (case folded) of all that will be found, so that few need be looked at."""
    clauses, joints = _parse(query)
    if "OR" in joints:
        return None
    for clause in clauses:
        if not clause.negated and clause.field == "metadata" and clause.key is not None and clause.value is not None:
            return clause.key, str(clause.value).casefold()
    return None


def _parse(query: str) -> tuple[list[_Clause], set[str]]:
    clauses: list[_Clause] = []
    joints: set[str] = set()
    position, joined = 0, True
    text = query.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or (match["joint"] and joined):
            raise _unreadable(query)
        position = match.end()
        if match["joint"]:
            joints.add(match["joint"])
            joined = True
            continue
        if not joined:
            joints.add("AND")  # a space between clauses
        joined = False
        key = None if match["key"] is None else _unquote(match["key"])
        clauses.append(_Clause(bool(match["minus"]), match["field"], key, match["operator"], _value(match["value"])))
    if joined:
        raise _unreadable(query)
    if len(joints) > 1:
        raise invalid("A query cannot mix AND and OR.", "query")
    if len(clauses) > MOST_CLAUSES:
        raise invalid(f"A query can have at most {MOST_CLAUSES} clauses.", "query")
    return clauses, joints


def _test(clause: _Clause) -> Test:
    plain = _plain_test(clause)
    return (lambda customer: not plain(customer)) if clause.negated else plain


def _plain_test(clause: _Clause) -> Test:
    value = clause.value
    if clause.field == "metadata" and clause.key is not None and clause.operator == ":":
        return _metadata_test(clause.key, value)
    if clause.field in _TEXTS and clause.key is None and isinstance(value, str):
        return _text_test(clause.field, clause.operator, value)
    if clause.field == "created" and clause.key is None and isinstance(value, int):
        return _number_test(clause.operator, value)
    raise invalid(f"Field `{clause.field}` cannot be searched in this way.", "query")


def _metadata_test(key: str, value: str | int | None) -> Test:
    if value is None:
        return lambda customer: key not in customer.metadata
    wanted = str(value).casefold()
    return lambda customer: customer.metadata.get(key, "").casefold() == wanted and key in customer.metadata


def _text_test(field: str, operator: str, value: str) -> Test:
    wanted = value.casefold()

    def content(customer: Customer) -> str:
        return (getattr(customer, field) or "").casefold()

    if operator == ":":
        return lambda customer: content(customer) == wanted
    if operator == "~" and len(value) >= 3:
        return lambda customer: wanted in content(customer)
    raise invalid("A substring search needs `~` and at least 3 characters.", "query")


def _number_test(operator: str, value: int) -> Test:
    tests: dict[str, Test] = {
        ":": lambda customer: customer.created == value,
        "=": lambda customer: customer.created == value,
        "<": lambda customer: customer.created < value,
        "<=": lambda customer: customer.created <= value,
        ">": lambda customer: customer.created > value,
        ">=": lambda customer: customer.created >= value,
    }
    if operator not in tests:
        raise invalid("`created` is compared with `=`, `<`, `<=`, `>` or `>=`.", "query")
    return tests[operator]


def _value(text: str) -> str | int | None:
    if text == "null":
        return None
    return _unquote(text) if text[0] in "\"'" else int(text)


def _unquote(text: str) -> str:
    return _ESCAPE.sub(r"\1", text[1:-1])


def _unreadable(query: str) -> StripeFailure:
    return invalid(f"We were unable to parse your search query: {query!r}", "query")
