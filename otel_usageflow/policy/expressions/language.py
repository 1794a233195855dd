"""CEL as policies speak it: the one module that knows the library, its types and the text of its errors.

Standard CEL with the `math` extension. The library bounds an evaluation: 32 levels of nesting, 10,000 steps of loops,
and regular expressions of RE2. Source: the CEL language definition.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from otel_usageflow.config.nearest import nearest
from otel_usageflow.policy.expressions.fields import FIELDS
from otel_usageflow.policy.expressions.syntax import ROOTS, Mistake
from otel_usageflow.policy.text import is_clean

MAX_LENGTH: Final = 8_192
"""Characters of an expression."""

_SPAN: Final = "otel_usageflow.Span"
_TYPES: Final = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "int": FieldDescriptorProto.TYPE_INT64,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
}
_ERROR: Final = re.compile(r"^(?:[A-Z_]+: )?ERROR: <input>:(-?\d+):(-?\d+): (.*?)(?: \[[A-Z_]+\])?$", re.MULTILINE)


class Compiled(NamedTuple):
    """An expression that passed the checks."""

    program: Any
    """Has `eval(data=...)`."""
    type: str
    """Of its result, in lower case: bool, int, dyn and so on."""
    serialized: bytes
    """The checked expression, in an `Any`."""


class CompileError(ValueError):
    """An expression is wrong; says where."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("; ".join(dict.fromkeys(map(_placed, mistakes))))


@lru_cache(maxsize=1)
def _environments() -> tuple[Any, Any]:
    """One that knows the type of every field of `span`, to check with, and one that takes plain maps, to run."""
    try:
        from cel_expr_python import cel
        from cel_expr_python.ext import ext_math
    except ImportError:
        raise ValueError(
            "needs the package cel-expr-python, which is not installed; it exists for glibc, macOS and Windows, "
            "not for Alpine"
        ) from None
    attributes = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    names = dict.fromkeys(ROOTS, attributes)
    checking = cel.NewEnv(_span_type(), variables=names | {"span": cel.Type(_SPAN)}, extensions=[ext_math.ExtMath()])
    return checking, cel.NewEnv(variables=names, extensions=[ext_math.ExtMath()])


def _span_type() -> DescriptorPool:
    package, _, name = _SPAN.partition(".")
    file = FileDescriptorProto(name="span.proto", package=package, syntax="proto3")
    message = file.message_type.add(name=name)
    for number, (field, about) in enumerate(FIELDS.items(), 1):
        message.field.add(
            name=field, number=number, type=_TYPES[about.type], label=FieldDescriptorProto.LABEL_OPTIONAL
        )
    pool = DescriptorPool()
    pool.Add(file)
    return pool


def compile_text(text: str) -> Compiled:
    """Check and compile an expression.

    Raises:
        CompileError: it is none, or cannot be right; the message says why, with line and column.
        ValueError: there is nothing to compile, or nothing to compile it with.
    """
    if not text.strip():
        raise ValueError("is empty; write an expression in CEL")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
    if not is_clean(text):
        raise ValueError("is not valid Unicode")
    checking, running = _environments()
    try:
        checked = checking.compile(text)
        program = running.compile(text)
    except RuntimeError as error:
        raise CompileError(list(_mistakes(str(error)))) from None
    return Compiled(
        program, checked.return_type().name().replace(_SPAN, "a span").lower(), bytes(program.serialize())
    )


def evaluate(program: Any, data: dict[str, Any]) -> Any:
    """The value of an expression: bool, int, float or str; None if it has another one, or if it failed."""
    try:
        value = program.eval(data=data)
        result = value.value()
        if isinstance(result, str):  # an error comes as its text
            return result if value.type().name() == "STRING" else None
    except Exception:  # noqa: BLE001  (whatever the library raises, the expression has no value)
        return None
    return result if isinstance(result, bool | int | float) else None


def _placed(mistake: Mistake) -> str:
    if mistake.line < 1:
        return mistake.text
    return f"line {mistake.line}, column {mistake.column}: {mistake.text}"


def _mistakes(message: str) -> Iterator[Mistake]:
    found = False
    for line, column, text in _ERROR.findall(message):
        found = True
        yield Mistake(int(line), int(column), _worded(text))
    if not found:
        yield Mistake(0, 0, _worded(message.partition("\n")[0]))


def _worded(text: str) -> str:
    text = text.removesuffix(" (in container '')")
    if "recursion" in text:
        return "is nested more than 32 levels deep; put parentheses into a long sum, or shorten it"
    if field := re.match(r"undefined field '(.*)' not found in struct", text):
        return f"span has no field {field[1]}{_guess(field[1], FIELDS)} (known: {', '.join(sorted(FIELDS))})"
    if name := re.match(r"undeclared reference to '(.*)'", text):
        root = name[1].partition(".")[0]
        return f"{root} is not known{_guess(root, ROOTS)}; there are attributes, resource, span and CEL's functions"
    if call := re.match(r"found no matching overload for '(.*?)' applied to '(.*)'", text):
        operator = call[1].replace("_", "").replace("@", "").replace("?:", "? :")
        return f"{operator} does not take {call[2].replace(_SPAN, 'span')}"
    return text.partition(" expecting {")[0].replace(_SPAN, "span")


def _guess(name: str, known: Any) -> str:
    guess = nearest(name, known)
    return f"; did you mean {guess}?" if guess else ""
