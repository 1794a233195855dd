"""Which events go together in one call. Pure.

A receiver that takes many events a call gets those of one account, of distinct lanes, first come first served. There
are two ways to it: calls of the one kind take several events, and calls of the other have one each.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from otel_usageflow.ledger.identifier import batch_of
from otel_usageflow.model.meter_event import MeterEvent

SINGLE = "single"
BATCH = "batch"
"""The two ways: calls of one event, and calls of several."""


@dataclass(slots=True)
class Calls:
    """What was sent one way since the start."""

    calls: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one call: of one account and of distinct lanes.

    `key` is the idempotency key of a call that takes several, even if it has one; it is empty for a call of the kind
    that has one event, where the key is the event's own.
    """

    events: tuple[MeterEvent, ...]
    key: str = ""

    @property
    def account(self) -> str:
        """Whose events they are."""
        return self.events[0].account

    @property
    def way(self) -> str:
        """`SINGLE` or `BATCH`."""
        return BATCH if self.key else SINGLE


@dataclass(frozen=True, slots=True)
class Plan:
    """Events that are to go in one call. `together`: in one of the kind that takes several."""

    events: tuple[MeterEvent, ...]
    together: bool

    @property
    def account(self) -> str:
        """Whose events they are."""
        return self.events[0].account

    def begun(self, now: float, key: str) -> Batch:
        """The events as they stand when the call has begun (unix seconds), with its key."""
        number = batch_of(key) or 0
        return Batch(
            tuple(
                replace(
                    event,
                    attempts=event.attempts + 1,
                    first_attempt_at=now if event.first_attempt_at is None else event.first_attempt_at,
                    batch=number,
                )
                for event in self.events
            ),
            key,
        )


def goes_together(event: MeterEvent, most: int) -> bool:
    """Whether an event goes by the way on which a call takes `most` events; 1 stands for the other way.

    As long as it is not known what became of it, it stays on the way by which it went: what recognises a resend on
    one of them may not do so on the other.
    """
    return event.batch > 0 if event.uncertain else most > 1


def plans(heads: Iterable[MeterEvent], most: int, alone: Callable[[MeterEvent], bool]) -> list[Plan]:
    """Put the next event of each lane into calls, in the order of their first events.

    Args:
        heads: at most one event of a lane.
        most: how many events one call takes. If that is 1, an event that still has to go the other way has a call of
            its own there.
        alone: whether an event must not share a call.
    """
    found: list[list[MeterEvent]] = []
    filling: dict[str, list[MeterEvent]] = {}
    for event in heads:
        if not goes_together(event, most) or alone(event):
            found.append([event])
            continue
        batch = filling.get(event.account)
        if batch is None or len(batch) >= most:
            batch = filling[event.account] = []
            found.append(batch)
        batch.append(event)
    return [Plan(tuple(events), goes_together(events[0], most)) for events in found]
