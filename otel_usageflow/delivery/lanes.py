"""What waits to be sent, in memory: a queue for each lane, of which one event at a time is under way.

It is only a view of the ledger's unsettled events, and may be lost at any instant.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import count

from otel_usageflow.ledger.freeze import Lane
from otel_usageflow.model.meter_event import MeterEvent


class Lanes:
    """Events by lane; a lane is ready, delayed, or under way."""

    def __init__(self) -> None:
        self._queues: dict[Lane, deque[MeterEvent]] = {}
        self._ready: OrderedDict[Lane, None] = OrderedDict()
        self._delayed: list[tuple[float, int, Lane]] = []
        self._ticket = count()
        self._ids: set[int] = set()

    def __contains__(self, lane: object) -> bool:
        return lane in self._queues

    @property
    def events(self) -> int:
        """How many events are held here, under way or not."""
        return len(self._ids)

    def holds(self, account: str) -> bool:
        """Whether there is an event of this account, under way or not."""
        return any(lane[0] == account for lane in self._queues)

    @property
    def ready(self) -> Iterable[Lane]:
        """Lanes whose next event may be sent, in the order in which they became ready."""
        return self._ready.keys()

    def add(self, event: MeterEvent) -> None:
        """Queue an event behind those of its lane, unless it is held already."""
        if event.event_id in self._ids:
            return
        self._ids.add(event.event_id)
        queue = self._queues.get(event.lane)
        if queue is None:
            self._queues[event.lane] = deque([event])
            self._ready[event.lane] = None
        else:
            queue.append(event)

    def heads(self) -> Iterator[MeterEvent]:
        """The next event of every ready lane, in that order."""
        for lane in list(self._ready):
            yield self._queues[lane][0]

    def start(self, event: MeterEvent) -> None:
        """The lane of this event is under way."""
        del self._ready[event.lane]

    def finish(self, event: MeterEvent) -> None:
        """The event that was under way is settled; the lane's next one is ready."""
        queue = self._queues[event.lane]
        self._ids.discard(queue.popleft().event_id)
        if queue:
            self._ready[event.lane] = None
        else:
            del self._queues[event.lane]

    def delay(self, event: MeterEvent, until: float) -> None:
        """The event that was under way, in its present form, is to be tried again at this monotonic time."""
        self._queues[event.lane][0] = event
        heapq.heappush(self._delayed, (until, next(self._ticket), event.lane))

    def wake(self, now: float) -> None:
        """Lanes whose delay is over become ready."""
        while self._delayed and self._delayed[0][0] <= now:
            lane = heapq.heappop(self._delayed)[2]
            self._ready[lane] = None

    @property
    def next_wake(self) -> float | None:
        """Monotonic time at which the next delay is over."""
        return self._delayed[0][0] if self._delayed else None
