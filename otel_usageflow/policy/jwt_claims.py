"""What a token's claims must fulfil (RFC 7519 section 4.1): issuer, audience, and the time of the request."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otel_usageflow.policy.json_value import values_at
from otel_usageflow.policy.jwt_cause import Cause, Refused


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of a token besides its signature."""

    issuers: frozenset[str] | None = None
    audiences: frozenset[str] | None = None
    leeway: float = 0.0
    """Seconds by which clocks may differ."""

    def check(self, claims: Any) -> "Term":
        """Judge what does not change with time.

        Raises:
            Refused: the wrong issuer or audience, or a time that is none.
        """
        begins, ends = _times(claims, "nbf"), _times(claims, "exp")
        if self.issuers is not None and not _among(values_at(claims, ["iss"]), self.issuers):
            raise Refused(Cause.ISSUER)
        if self.audiences is not None and not _meets(values_at(claims, ["aud"]), self.audiences):
            raise Refused(Cause.AUDIENCE)
        return Term(max(begins, default=None), min(ends, default=None))


@dataclass(frozen=True, slots=True)
class Term:
    """When a token is in force, in seconds since 1970 as it states them; of repeated times the narrowest."""

    begins: int | float | None
    ends: int | float | None

    def objection(self, at: float, leeway: float) -> Cause | None:
        """What is wrong with the token at a moment, in seconds since 1970."""
        if self.ends is not None and self.ends <= at - leeway:
            return Cause.EXPIRED
        if self.begins is not None and self.begins > at + leeway:
            return Cause.NOT_YET_VALID
        return None


def _times(claims: Any, name: str) -> tuple[int | float, ...]:
    values = values_at(claims, [name])
    times = tuple(value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
    if len(times) != len(values) or any(isinstance(time, float) and not math.isfinite(time) for time in times):
        raise Refused(Cause.MALFORMED)
    return times


def _among(values: Sequence[Any], allowed: frozenset[str]) -> bool:
    return len(values) == 1 and isinstance(values[0], str) and values[0] in allowed


def _meets(values: Sequence[Any], allowed: frozenset[str]) -> bool:
    """Whether the one audience claim names one of ours; it may be a list."""
    if len(values) != 1:
        return False
    named = values[0] if isinstance(values[0], list) else [values[0]]
    return any(isinstance(name, str) and name in allowed for name in named)
