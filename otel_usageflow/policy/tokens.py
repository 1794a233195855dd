"""What one span says of one attribute that is billed: a number, nothing, or something that cannot be billed.

Three kinds of tokens are more than one attribute. By OpenTelemetry's conventions the input tokens include those that
were read from or written to a cache; the instrumentations of some providers leave them out, which a policy has to
say. Nothing is guessed: where a span's own numbers show that what is assumed is wrong, it has no amount.
Sources: semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md; OpenInference, spec/semantic_conventions.md.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final, Literal

from otel_usageflow.model.attributes import Found, decode_found, read
from otel_usageflow.model.usage import Quantity
from otel_usageflow.policy.quantity import bounded_total, difference, exact
from otel_usageflow.policy.spellings import (
    CACHE_READ,
    CACHE_WRITE,
    INPUT,
    OUTPUT,
    PROVIDER,
    TOTAL,
    UNCACHED,
    current,
    spellings,
)
from otel_usageflow.policy.text import plain_text


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""The span does not have the attribute."""
Amount = Quantity | Literal[Absent.ABSENT] | None
"""None is a value that cannot be billed."""

CACHE_KINDS: Final = frozenset({INPUT, TOTAL, UNCACHED})
"""The attributes (current spellings) for which it matters whether input tokens include those of the cache."""
_CACHED: Final = (spellings(CACHE_READ), spellings(CACHE_WRITE))
_NO_OUTPUT: Final = {
    "gen_ai.operation.name": frozenset({"embeddings"}),
    "llm.request.type": frozenset({"embedding", "rerank"}),
    "openinference.span.kind": frozenset({"EMBEDDING", "RERANKER"}),
}
"""Operations that read tokens and write none, so that the input is the total: attribute -> values."""


@dataclass(frozen=True, slots=True)
class Summand:
    """One attribute of a quantity, ready to be read from spans."""

    attribute: str
    """As the policy names it."""
    name: str
    """The attribute, and what else decides its amount: summands of one name give one span the same amount."""
    keys: frozenset[str]
    """The span attributes that it reads."""
    amount: Callable[[Found], Amount]
    """What a span with these attributes says."""


def summand(attribute: str, input_excludes_cache: Collection[str] = (), scopes: Collection[str] = ()) -> Summand:
    """Prepare one attribute.

    Args:
        attribute: as the policy names it.
        input_excludes_cache: the providers of whose spans the input tokens leave out those of the cache.
        scopes: the instrumentation scopes whose spans count; they only become part of the name.
    """
    kind = current(attribute)
    providers = frozenset(name.lower() for name in input_excludes_cache) if kind in CACHE_KINDS else frozenset()
    tokens = _Tokens(attribute, providers)
    amount = {INPUT: tokens.input, TOTAL: tokens.total, UNCACHED: tokens.uncached}.get(kind, tokens.plain)
    return Summand(attribute, _name(attribute, providers, scopes), tokens.keys(kind), amount)


def _name(attribute: str, providers: Collection[str], scopes: Collection[str]) -> str:
    """Stable, because it is kept with spans whose request has not arrived yet, also across a restart."""
    if not providers and not scopes:
        return attribute
    rules = repr((sorted(set(providers)), sorted(set(scopes))))
    return f"{attribute}#{sha256(rules.encode()).hexdigest()[:12]}"


def attribute_of(name: str) -> str:
    """The attribute in the name of a summand, for people."""
    return _RULES.sub("", name)


_RULES: Final = re.compile("#[0-9a-f]{12}$")


class _Tokens:
    """The rules for one attribute."""

    def __init__(self, attribute: str, providers: frozenset[str]) -> None:
        kind = current(attribute)
        self._names = spellings(attribute)
        self._input = self._names if kind == INPUT else spellings(INPUT)
        self._providers = providers

    def keys(self, kind: str) -> frozenset[str]:
        """What is read for this kind of attribute."""
        keys = {*self._names}
        if kind in CACHE_KINDS:
            keys.update(self._input, *_CACHED)
        if kind == TOTAL:
            keys.update(spellings(OUTPUT), _NO_OUTPUT)
        if self._providers:
            keys.update(spellings(PROVIDER))
        return frozenset(keys)

    def plain(self, found: Found) -> Amount:
        """An attribute that is what it is."""
        return _first(found, self._names)

    def input(self, found: Found) -> Amount:
        """All input tokens, those of the cache included."""
        stated = _first(found, self._input)
        if stated is ABSENT or stated is None:
            return stated
        cached = _cached(found)
        if self._excludes(found):
            return None if cached is None else bounded_total((stated, cached))
        return stated if cached is None or cached <= stated else None

    def total(self, found: Found) -> Amount:
        """Input and output, as the span says it, or added up where it says no total."""
        stated = _first(found, self._names)
        if stated is ABSENT:
            return self._parts(found)
        if self._excludes(found) and _cached(found) != 0:
            # The total may be with or without the tokens of the cache: only its parts tell.
            parts = self._parts(found)
            return None if parts is ABSENT else parts
        return None if self._contradicts(found) else stated

    def uncached(self, found: Found) -> Amount:
        """Input tokens that neither came from a cache nor were written to one."""
        stated = _first(found, self._names)
        if stated is not ABSENT:
            return stated
        tokens = _first(found, self._input)
        if tokens is ABSENT or tokens is None or self._excludes(found):
            return tokens
        cached = _cached(found)
        return difference(tokens, cached) if cached is not None and cached <= tokens else None

    def _parts(self, found: Found) -> Amount:
        tokens, output = self.input(found), _first(found, spellings(OUTPUT))
        if tokens is ABSENT and output is ABSENT:
            return ABSENT
        if output is ABSENT and _has_no_output(found):
            return tokens
        if tokens is None or tokens is ABSENT or output is None or output is ABSENT:
            return None
        return bounded_total((tokens, output))

    def _contradicts(self, found: Found) -> bool:
        """Whether the span's input tokens cannot include those of the cache, although that is assumed."""
        return not self._excludes(found) and _first(found, self._input) is not None and self.input(found) is None

    def _excludes(self, found: Found) -> bool:
        return bool(self._providers) and any(name in self._providers for name in _providers(found))


def _first(found: Found, keys: tuple[str, ...]) -> Amount:
    for key in keys:
        if key in found and (value := decode_found(found[key])) is not None:
            return exact(value)
    return ABSENT


def _cached(found: Found) -> Quantity | None:
    """The tokens that were read from and written to a cache; 0 if the span says nothing of it."""
    amounts = [amount for names in _CACHED if (amount := _first(found, names)) is not ABSENT]
    known = [amount for amount in amounts if amount is not None]
    return bounded_total(known) if len(known) == len(amounts) else None


def _providers(found: Found) -> Iterator[str]:
    for key in spellings(PROVIDER):
        if text := plain_text(read(found, key)):
            yield text.lower()


def _has_no_output(found: Found) -> bool:
    return any(plain_text(read(found, key)) in values for key, values in _NO_OUTPUT.items())
