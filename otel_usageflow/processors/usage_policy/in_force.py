"""The policies in force, and the time around a change of them in which local traces belong to both sets.

A quantity that is summed over a request's local trace is made of spans that come before the request and after it. So
what the policies to come will sum is kept for as long as they wait for spans before they decide about a request, and
what the policies of before sum is kept for a while after their last request. Where no policy sums traces, or the same
is summed before and after, a change takes no time.
"""

import asyncio
from collections.abc import Iterable

from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.trace_spans import TraceRule

BEFOREHAND = 60.0
"""Seconds that a change waits at most."""
AFTERWARDS = 60.0
"""Seconds, or twice the wait for spans if that is longer, for which spans are kept for requests of before."""


class InForce:
    """Says which engine decides now."""

    def __init__(self, policies: PolicyEngine) -> None:
        self.policies = policies
        """Without what is read for others."""
        self.engine = policies
        """What decides about requests."""
        self._before: list[TraceRule] = []
        self._coming: list[TraceRule] = []
        self._ending: asyncio.TimerHandle | None = None

    async def prepare(self, policies: PolicyEngine) -> None:
        """Keep what these will sum, and wait until they can begin. Then call `change`, or `stay`."""
        self._coming = _without(policies.summed, [*self.policies.summed, *self._before])
        self._read()
        try:
            await asyncio.sleep(min(_longest(self._coming), BEFOREHAND))
        except BaseException:
            self.stay()
            raise

    def change(self, policies: PolicyEngine) -> None:
        """Let these decide."""
        self._before = _without([*self.policies.summed, *self._before], policies.summed)
        self.policies = policies
        self.stay()
        self.stop()
        if self._before:
            wait = max(AFTERWARDS, 2 * _longest(self._before))
            self._ending = asyncio.get_running_loop().call_later(wait, self._part)

    def stay(self) -> None:
        """Go on with these policies: none are to come."""
        self._coming = []
        self._read()

    def stop(self) -> None:
        """Nothing more happens by itself."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def _part(self) -> None:
        """Keep nothing more for the policies of before."""
        self._before = []
        self._read()

    def _read(self) -> None:
        others = [*self._before, *self._coming]
        self.engine = self.policies.reading_also(others) if others else self.policies


def _longest(rules: Iterable[TraceRule]) -> float:
    """Seconds that requests wait for spans of their trace, at most."""
    return max((rule.wait_ns for rule in rules), default=0) / 1_000_000_000


def _without(rules: Iterable[TraceRule], others: Iterable[TraceRule]) -> list[TraceRule]:
    """Those of the rules that keep something else than these others."""
    known = {_kept(rule) for rule in others}
    return [rule for rule in rules if _kept(rule) not in known]


def _kept(rule: TraceRule) -> object:
    return rule.names, rule.scopes, rule.services
