"""What waits to be sent, in memory: a queue for each lane, of which one event at a time is under way.

It is only a view of the ledger's unsettled events, and may be lost at any instant. Accounts take turns, and within
an account fresh usage and the backlog (`fairness.py`).
"""

import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from otel_usageflow.delivery.fairness import Turns
from otel_usageflow.ledger.freeze import Lane
from otel_usageflow.model.meter_event import MeterEvent


@dataclass(slots=True)
class _Ready:
    """The lanes of one account that wait for nothing but their turn, in the order in which they became ready."""

    fresh: OrderedDict[Lane, None] = field(default_factory=OrderedDict)
    backlog: OrderedDict[Lane, None] = field(default_factory=OrderedDict)
    turns: Turns = field(default_factory=Turns)


class Lanes:
    """Events by lane; a lane is ready, delayed, or under way."""

    def __init__(self) -> None:
        self._queues: dict[Lane, deque[MeterEvent]] = {}
        self._ready: OrderedDict[str, _Ready] = OrderedDict()
        self._resting: set[Lane] = set()
        """Lanes that are delayed or under way."""
        self._delayed: list[tuple[float, int, Lane]] = []
        self._ticket = count()
        self._ids: set[int] = set()
        self._fresh: dict[Lane, set[int]] = {}
        self._held: Counter[str] = Counter()

    def __contains__(self, lane: object) -> bool:
        return lane in self._queues

    @property
    def events(self) -> int:
        """How many events are held here, under way or not."""
        return len(self._ids)

    def holds(self, account: str) -> bool:
        """Whether there is an event of this account, under way or not."""
        return self._held[account] > 0

    def holds_fresh(self, lane: Lane) -> bool:
        """Whether there is fresh usage of this lane, under way or not."""
        return lane in self._fresh

    def ready(self, *, fresh: bool) -> dict[str, int]:
        """How many lanes of each account are ready whose next event is fresh, or is not."""
        return {
            account: len(lanes.fresh if fresh else lanes.backlog)
            for account, lanes in self._ready.items()
            if (lanes.fresh if fresh else lanes.backlog)
        }

    @property
    def waiting_accounts(self) -> Iterator[str]:
        """Accounts with lanes that are ready."""
        return (account for account, lanes in self._ready.items() if lanes.fresh or lanes.backlog)

    def add(self, event: MeterEvent, *, fresh: bool = False) -> None:
        """Queue an event, unless it is held already: behind those of its lane; a fresh one before the backlog."""
        if event.event_id in self._ids:
            return
        lane = event.lane
        self._ids.add(event.event_id)
        self._held[lane[0]] += 1
        queue = self._queues.get(lane)
        if queue is None:
            queue = self._queues[lane] = deque()
        if fresh:
            of_lane = self._fresh.setdefault(lane, set())
            # What is under way, or has been, keeps its place at the head.
            first = 1 if queue and (lane in self._resting or queue[0].attempts) else 0
            while first < len(queue) and queue[first].event_id in of_lane:
                first += 1
            queue.insert(first, event)
            of_lane.add(event.event_id)
        else:
            queue.append(event)
        if lane not in self._resting:
            self._set_ready(lane)

    def choose(self, room: Callable[[str], int], most: int, now: float) -> Iterator[MeterEvent]:
        """The events to begin: accounts in turn, each at most its `room` now (unix seconds), `most` in all.

        None of the lanes may be started or finished before the iteration ends.
        """
        sources = {
            account: (self._in_turn(lanes, now), room(account))
            for account, lanes in self._ready.items()
            if lanes.fresh or lanes.backlog
        }
        while sources and most > 0:
            for account, (events, left) in list(sources.items()):
                event = next(events, None) if left > 0 and most > 0 else None
                if event is None:
                    del sources[account]
                    continue
                sources[account] = (events, left - 1)
                most -= 1
                self._ready.move_to_end(account)
                yield event

    def _in_turn(self, lanes: _Ready, now: float) -> Iterator[MeterEvent]:
        """The next events of one account, fresh ones and others in their shares."""
        fresh, backlog = iter(lanes.fresh), iter(lanes.backlog)
        next_fresh, next_backlog = next(fresh, None), next(backlog, None)
        while next_fresh is not None or next_backlog is not None:
            if next_fresh is None:
                old = True
            elif next_backlog is None:
                old = False
            else:
                old = lanes.turns.backlog_next(self._queues[next_backlog][0].timestamp, now)
            if old:
                assert next_backlog is not None
                yield self._queues[next_backlog][0]
                next_backlog = next(backlog, None)
            else:
                assert next_fresh is not None
                yield self._queues[next_fresh][0]
                next_fresh = next(fresh, None)

    def start(self, event: MeterEvent) -> None:
        """The lane of this event is under way."""
        lane = event.lane
        lanes = self._ready[lane[0]]
        lanes.fresh.pop(lane, None)
        lanes.backlog.pop(lane, None)
        self._resting.add(lane)

    def finish(self, event: MeterEvent) -> None:
        """The event that was under way is settled; the lane's next one is ready."""
        lane = event.lane
        queue = self._queues[lane]
        done = queue.popleft().event_id
        self._ids.discard(done)
        self._held[lane[0]] -= 1
        of_lane = self._fresh.get(lane)
        if of_lane is not None:
            of_lane.discard(done)
            if not of_lane:
                del self._fresh[lane]
        self._resting.discard(lane)
        if queue:
            self._set_ready(lane)
        else:
            del self._queues[lane]

    def delay(self, event: MeterEvent, until: float) -> None:
        """The event that was under way, in its present form, is to be tried again at this monotonic time."""
        self._queues[event.lane][0] = event
        heapq.heappush(self._delayed, (until, next(self._ticket), event.lane))

    def wake(self, now: float) -> None:
        """Lanes whose delay is over become ready."""
        while self._delayed and self._delayed[0][0] <= now:
            lane = heapq.heappop(self._delayed)[2]
            self._resting.discard(lane)
            self._set_ready(lane)

    @property
    def next_wake(self) -> float | None:
        """Monotonic time at which the next delay is over."""
        return self._delayed[0][0] if self._delayed else None

    def _set_ready(self, lane: Lane) -> None:
        """The lane waits among those that its next event belongs to."""
        lanes = self._ready.setdefault(lane[0], _Ready())
        fresh = self._queues[lane][0].event_id in self._fresh.get(lane, ())
        other = lanes.backlog if fresh else lanes.fresh
        other.pop(lane, None)
        (lanes.fresh if fresh else lanes.backlog).setdefault(lane)
