"""What an expression reads, found in its checked form, and mistakes that the type checker cannot know of.

Source: cel/expr/syntax.proto of the CEL specification.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from otel_usageflow.policy.regex import compile_regex
from otel_usageflow.proto.expressions.v1.expressions_pb2 import CheckedExpr, Expr

ROOTS: Final = ("attributes", "resource", "span")
"""The names that an expression may use."""


@dataclass(slots=True)
class Mistake:
    """What is wrong, and where it begins."""

    line: int
    """From 1."""
    column: int
    """From 1, in characters."""
    text: str


@dataclass(slots=True)
class Reads:
    """What an expression reads, by root."""

    keys: dict[str, set[str]] = field(default_factory=dict)
    """Root -> the keys that are named in the text."""
    whole: set[str] = field(default_factory=set)
    """Roots of which everything may be read, because keys are worked out at run time."""
    mistakes: list[Mistake] = field(default_factory=list)


def reads(serialized: bytes) -> Reads:
    """Walk a `cel.expr.CheckedExpr`, serialized in an `Any`. Names too much rather than too little."""
    try:
        checked = CheckedExpr.FromString(Any.FromString(serialized).value)
    except DecodeError:  # nested deeper than protobuf reads
        return Reads(whole=set(ROOTS))
    walk = _Walk(checked)
    walk.visit(checked.expr)
    return walk.found


class _Walk:
    def __init__(self, checked: CheckedExpr) -> None:
        self.found = Reads()
        self._source = checked.source_info

    def visit(self, expr: Expr) -> None:
        kind = expr.WhichOneof("kind")
        if kind == "select":
            self._select(expr)
            return
        if kind == "call" and self._keyed_call(expr):
            return
        if kind == "ident":
            root = expr.ident.name.removeprefix(".")
            if root in ROOTS:
                self.found.whole.add(root)
        elif kind == "comprehension":
            bound = expr.comprehension
            self.found.whole |= {bound.iter_var, bound.iter_var2, bound.accu_var} & {*ROOTS}
        for below in _parts(expr, kind):
            self.visit(below)

    def _select(self, expr: Expr) -> None:
        names = [expr.select.field]
        operand = expr.select.operand
        while operand.WhichOneof("kind") == "select":
            names.append(operand.select.field)
            operand = operand.select.operand
        root = _root(operand)
        if root is None:
            self.visit(operand)
            return
        self._read(root, names[-1])
        if len(names) > 1 and root != "span" and root not in self.found.whole:
            key = ".".join(reversed(names))
            text = f"an attribute has no fields, but its name may hold dots; write {root}['{key}']"
            self.found.mistakes.append(self._at(expr, text))

    def _keyed_call(self, expr: Expr) -> bool:
        """`attributes['key']` and `'key' in attributes` read one key."""
        call = expr.call
        if call.function == "matches":
            self._pattern(call.args[-1] if call.args else expr)
        if call.function not in {"_[_]", "@in"} or len(call.args) != 2:
            return False
        holder, key = call.args if call.function == "_[_]" else reversed(call.args)
        root = _root(holder)
        if root is None or not key.constant.HasField("string_value"):
            return False
        self._read(root, key.constant.string_value)
        return True

    def _read(self, root: str, key: str) -> None:
        self.found.keys.setdefault(root, set()).add(key)

    def _pattern(self, expr: Expr) -> None:
        if expr.constant.HasField("string_value"):
            try:
                compile_regex(expr.constant.string_value)
            except ValueError as error:
                self.found.mistakes.append(self._at(expr, str(error)))

    def _at(self, expr: Expr, text: str) -> Mistake:
        offset = self._source.positions.get(expr.id, 0)
        starts = [0, *(start for start in self._source.line_offsets if start <= offset)]
        return Mistake(len(starts), offset - starts[-1] + 1, text)


def _root(expr: Expr) -> str | None:
    name = expr.ident.name.removeprefix(".")
    return name if name in ROOTS else None


def _parts(expr: Expr, kind: str | None) -> Iterator[Expr]:
    if kind == "call":
        if expr.call.HasField("target"):
            yield expr.call.target
        yield from expr.call.args
    elif kind == "list":
        yield from expr.list.elements
    elif kind == "struct":
        for entry in expr.struct.entries:
            if entry.HasField("map_key"):
                yield entry.map_key
            yield entry.value
    elif kind == "comprehension":
        bound = expr.comprehension
        yield from (
            bound.iter_range,
            bound.accu_init,
            bound.loop_condition,
            bound.loop_step,
            bound.result,
        )
