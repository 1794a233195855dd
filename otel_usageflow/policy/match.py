"""What narrows a policy beyond its endpoint, and how many policies of one endpoint are told apart fast."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from otel_usageflow.policy.http import HOST_KEYS
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.spellings import spellings
from otel_usageflow.policy.text import plain_text


@dataclass(frozen=True, slots=True)
class Condition:
    """One value of a request must be one of these texts."""

    key: str
    """What is compared; conditions with the same key read the same value."""
    read: Callable[[HttpRequest], str | None]
    allowed: frozenset[str]
    span_keys: frozenset[str] = frozenset()
    """The span attributes that `read` looks at; else it looks at the resource and the scope only."""


def service_is(names: Sequence[str]) -> Condition:
    """The resource's `service.name`."""
    return Condition("service", lambda request: request.origin.service, frozenset(names))


def scope_is(names: Sequence[str]) -> Condition:
    """The instrumentation scope's name."""
    return Condition("scope", lambda request: request.origin.scope, frozenset(names))


def host_is(hosts: Sequence[str]) -> Condition:
    """The host that was asked for; these are in lower case and without a port."""
    return Condition("host", lambda request: request.host, frozenset(hosts), HOST_KEYS)


def attribute_is(key: str, texts: Sequence[str]) -> Condition:
    """A span attribute in any of its spellings, or the resource's where the span has none of them, by its text."""
    keys = spellings(key)
    if len(keys) == 1:
        return Condition(
            f"attribute {key}", lambda request: plain_text(request.value(key)), frozenset(texts), frozenset(keys)
        )

    def text(request: HttpRequest) -> str | None:
        for found, read in ((request.found, request.span_value), (request.origin.resource, request.resource_value)):
            for one in keys:
                if one in found:
                    return plain_text(read(one))
        return None

    return Condition(f"attribute {key}", text, frozenset(texts), frozenset(keys))


def holds(conditions: Sequence[Condition], request: HttpRequest) -> bool:
    """Whether all conditions are met."""
    return all(condition.read(request) in condition.allowed for condition in conditions)


_FEW: Final = 4
Conditions = Mapping[int, Sequence[Condition]]
"""Position of a policy -> its conditions."""


class Selection:
    """Policies of one endpoint; picks those whose conditions a request may meet.

    Many policies are split by the value that most of them compare, so that the cost of a pick does not grow
    with their number. What is picked must still be asked whether its conditions hold.
    """

    __slots__ = ("_by_value", "_read", "_rest", "policies")

    def __init__(self, policies: Sequence[int], conditions: Conditions, used: frozenset[str] = frozenset()) -> None:
        self.policies: Final = tuple(sorted(policies))
        self._read: Callable[[HttpRequest], str | None] | None = None
        if len(self.policies) <= _FEW:
            return
        splitters: dict[str, dict[int, Condition]] = {}
        for policy in self.policies:
            for condition in conditions[policy]:
                if condition.key not in used:
                    splitters.setdefault(condition.key, {})[policy] = condition
        if not splitters:
            return
        key, split = max(splitters.items(), key=lambda item: len(item[1]))
        used = used | {key}
        by_value: dict[str, list[int]] = {}
        for policy, condition in split.items():
            for text in condition.allowed:
                by_value.setdefault(text, []).append(policy)
        self._read = next(iter(split.values())).read
        self._by_value = {text: Selection(below, conditions, used) for text, below in by_value.items()}
        self._rest = Selection([one for one in self.policies if one not in split], conditions, used)

    def pick(self, request: HttpRequest) -> Sequence[int]:
        """The positions of policies, in order."""
        if self._read is None:
            return self.policies
        value = self._read(request)
        below = self._by_value.get(value) if value is not None else None
        rest = self._rest.pick(request)
        if below is None:
            return rest
        return sorted([*below.pick(request), *rest]) if rest else below.pick(request)
