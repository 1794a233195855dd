"""One expression of a policy, compiled: what it reads, and what it says about a request."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_usageflow.model.attributes import Value
from otel_usageflow.model.usage import Quantity
from otel_usageflow.policy.expressions.fields import FIELDS
from otel_usageflow.policy.expressions.language import CompileError, compile_text, evaluate
from otel_usageflow.policy.expressions.syntax import Reads, reads
from otel_usageflow.policy.expressions.values import everything, some, visible
from otel_usageflow.policy.quantity import exact
from otel_usageflow.policy.request import HttpRequest

_Reader = Callable[[HttpRequest], Mapping[str, Value]]


class Expression:
    """A compiled expression. Keeps no state; may be used by several threads."""

    __slots__ = ("_program", "_readers", "resource_keys", "span_keys", "text")

    def __init__(self, text: str, allowed: frozenset[str], wanted: str) -> None:
        compiled = compile_text(text)
        found = reads(compiled.serialized)
        if found.mistakes:
            raise CompileError(found.mistakes)
        if compiled.type not in allowed:
            raise ValueError(f"gives {compiled.type}, but has to give {wanted}")
        self.text: Final = text
        """As it was written."""
        self._program = compiled.program
        fields = tuple(name for name in FIELDS if "span" in found.whole or name in found.keys.get("span", ()))
        self.span_keys: Final = frozenset(_named(found, "attributes")).union(*(FIELDS[name].keys for name in fields))
        """The span attributes that it reads from those that were found; see `_attributes` for the others."""
        self.resource_keys: Final = frozenset(_named(found, "resource"))
        """The resource attributes, likewise."""
        self._readers = tuple(_readers(found, fields))

    def holds(self, request: HttpRequest) -> bool | None:
        """Whether a request meets this condition; None if it failed or says neither."""
        result = self._evaluate(request)
        return result if isinstance(result, bool) else None

    def amount(self, request: HttpRequest) -> Quantity | None:
        """The quantity, exact; None if it failed or is none that can be billed.

        A double becomes the shortest decimal that is this double: 0.1 is one tenth.
        """
        return exact(self._evaluate(request))

    def _evaluate(self, request: HttpRequest) -> Any:
        return evaluate(self._program, {name: read(request) for name, read in self._readers})


def condition(text: str) -> Expression:
    """Compile a condition.

    Raises:
        ValueError: it is none; the message says why, with line and column.
    """
    return Expression(text, frozenset({"bool", "dyn"}), "true or false")


def quantity(text: str) -> Expression:
    """Compile an expression for a quantity.

    Raises:
        ValueError: it is none; the message says why, with line and column.
    """
    return Expression(text, frozenset({"int", "uint", "double", "dyn"}), "a number, as int(...) or double(...) do")


def _named(found: Reads, root: str) -> list[str]:
    return [] if root in found.whole else sorted(found.keys.get(root, ()))


def _readers(found: Reads, fields: tuple[str, ...]) -> list[tuple[str, _Reader]]:
    readers: list[tuple[str, _Reader]] = []
    if "attributes" in found.whole:
        readers.append(("attributes", lambda request: everything(request.span.attributes)))
    elif keys := tuple(_named(found, "attributes")):
        readers.append(("attributes", lambda request: some(request.found, keys)))
    if "resource" in found.whole:
        readers.append(("resource", lambda request: everything(request.origin.attributes)))
    elif resource_keys := tuple(_named(found, "resource")):
        readers.append(("resource", lambda request: some(request.origin.resource, resource_keys)))
    if fields or "span" in found.whole:
        readers.append(("span", lambda request: _fields(request, fields)))
    return readers


def _fields(request: HttpRequest, names: tuple[str, ...]) -> Mapping[str, Value]:
    return {name: value for name in names if visible(value := FIELDS[name].read(request))}
