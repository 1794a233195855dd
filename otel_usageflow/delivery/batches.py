"""Which events go together in one call. Pure.

A receiver that takes many events a call gets those of one account, of distinct lanes, first come first served. There
are two ways to it: calls of the one kind take several events, and calls of the other have one each.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from otel_usageflow.model.meter_event import MeterEvent


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


@dataclass(frozen=True, slots=True)
class Plan:
    """Events that are to go in one call. `together`: in one of the kind that takes several."""

    events: tuple[MeterEvent, ...]
    together: bool

    @property
    def account(self) -> str:
        """Whose events they are."""
        return self.events[0].account


def goes_together(event: MeterEvent, most: int) -> bool:
    """Whether an event goes by the way on which a call takes `most` events; 1 stands for the other way.

    As long as it is not known what became of it, it stays on the way by which it went: what recognises a resend on
    one of them may not do so on the other.
    """
    return event.batch > 0 if event.uncertain else most > 1


def plans(heads: Iterable[MeterEvent], most: int, alone: Callable[[MeterEvent], bool], limit: int) -> list[Plan]:
    """Put the next event of each lane into calls, in the order of their first events.

    Args:
        heads: at most one event of a lane.
        most: how many events one call takes; an event of the other way has a call of its own.
        alone: whether an event must not share a call.
        limit: of events in a call that takes several, if `most` is 1 now.
    """
    found: list[list[MeterEvent]] = []
    filling: dict[str, list[MeterEvent]] = {}
    for event in heads:
        if not goes_together(event, most) or alone(event):
            found.append([event])
            continue
        batch = filling.get(event.account)
        if batch is None or len(batch) >= (most if most > 1 else limit):
            batch = filling[event.account] = []
            found.append(batch)
        batch.append(event)
    return [Plan(tuple(events), goes_together(events[0], most)) for events in found]
