"""A request as it waits to be sent: the part of a span that billing needs, and nothing else."""

from dataclasses import dataclass
from typing import TypeAlias

from opentelemetry.sdk.resources import Resource

Scalar: TypeAlias = str | bool | int | float
Value: TypeAlias = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One request.

    The trace state is left out on purpose: an `ot=th:` in it says how the *tracing* was sampled, and billing is not.
    """

    trace_id: int
    span_id: int
    parent_id: int
    """The caller's span, 0 for none."""
    name: str
    start: int
    """Nanoseconds since the epoch."""
    end: int
    failed: bool
    attributes: dict[str, Value]
    resource: Resource
    scope: tuple[str, str]
    """Name and version of what made the span."""
    weight: int
    """About how many bytes it holds in memory."""
