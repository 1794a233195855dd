"""What the spans of all batches tell of requests that did not arrive or came twice, by service, in bounded memory.

Taking a batch costs a few sums and sets; what they mean is worked out when somebody asks. Trace ids are judged in
lots of `MOST`. A full lot is replaced by the next one once it was judged and told, so that a sampler that is switched
on or off shows within two lots, and at most one lot of a service is judged between two tellings.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_usageflow.model.arrivals import Arrivals
from otel_usageflow.policy.completeness import Finding, by_counts, by_trace_ids, share_by_weights, unusable
from otel_usageflow.policy.trace_ids import MOST, Kept, kept_by
from otel_usageflow.policy.twins import Twins, twins

MOST_SERVICES: Final = 200
OTHERS: Final = "(others)"
"""Stands for the services beyond the most that are kept; their trace ids are not judged."""
LONGEST_NAME: Final = 200
"""Characters of a service's name that are kept."""
MOST_SCOPES: Final = 16
"""Instrumentation scopes that are counted for each service."""
_MANY: Final = 10_000
"""Requests of a service, above which what it reported so far counts by half: what was put right shows soon."""
MOST_PROCESSES: Final = 1_000
"""Processes with `otel_usageflow.sdk` that are known apart for each service; the longest silent is forgotten."""


@dataclass(slots=True)
class _Lot:
    """Trace ids of one kind, and what they say."""

    ids: set[bytes] = field(default_factory=set)
    judged: int = 0
    """How many were looked at."""
    kept: Kept | None = None
    """The verdict: of these, or, as long as these say nothing, of the lot before."""

    def fill(self, more: set[bytes]) -> None:
        """Add some, as long as there is room."""
        if len(self.ids) < MOST:
            self.ids |= more
            while len(self.ids) > MOST:
                self.ids.pop()

    def renew(self) -> None:
        """Begin with the next lot if this one is full."""
        if len(self.ids) >= MOST:
            self.ids, self.judged = set(), 0


@dataclass(slots=True)
class _Service:
    """What is known of one service."""

    recent: Arrivals = field(default_factory=Arrivals)
    """The counts since it was last told, without trace ids."""
    begun: _Lot = field(default_factory=_Lot)
    """Of traces that begin here."""
    continued: _Lot = field(default_factory=_Lot)
    """Of traces that callers began."""
    entered: Counter[str] = field(default_factory=Counter)
    """Instrumentation scope -> requests that it reported, of late."""
    lost: dict[str, int] = field(default_factory=dict)
    """SDK process -> what it said last; the one that spoke last is last."""
    lost_more: bool = False
    """Whether one of them has lost more since it was last told."""
    weighed_share: float | None = None
    """Of the requests that arrive, by weights, when it was last told."""

    def count(self, entered: Mapping[str, int]) -> None:
        """Add requests by the scope that reported them."""
        for scope, requests in entered.items():
            if scope in self.entered or len(self.entered) < MOST_SCOPES:
                self.entered[scope] += requests
        if self.entered.total() > _MANY:
            self.entered = Counter({scope: half for scope, count in self.entered.items() if (half := count // 2)})

    def share(self) -> float | None:
        """About how much of the requests arrives, if something says that it is not all."""
        now = share_by_weights(self.recent) if self.recent.several else self.weighed_share
        kept = [lot.kept.share for lot in (self.begun, self.continued) if lot.kept is not None]
        return min(kept if now is None else [now, *kept], default=None)


class ArrivalWatch:
    """Adds up; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._services: dict[str, _Service] = {}
        self.several = 0
        """SERVER spans that say that they stand for several requests."""
        self.doubts: Counter[str] = Counter(dict.fromkeys(unusable(), 0))
        """Why a weight cannot be used -> SERVER spans."""
        self.lost = 0
        """Requests that SDKs had to give up, as far as they said."""

    def take(self, arrivals: Mapping[str, Arrivals]) -> None:
        """Add what one batch says."""
        with self._lock:
            for named, seen in arrivals.items():
                service = self._services.get(named) or self._met(named)
                service.recent.add(seen)
                self.several += seen.several
                for cause, count in seen.doubts.items():
                    self.doubts[cause] += count
                if seen.lost:
                    self._note_lost(service, seen.lost)
                if service is not self._services.get(OTHERS):
                    service.count(seen.entered)
                    service.begun.fill(seen.begun)
                    service.continued.fill(seen.continued)

    def tell(self, *, adjusted: bool) -> list[Finding]:
        """What there is to say of the time since the last call; nothing of services without traffic.

        Args:
            adjusted: whether requests are counted by their weight.
        """
        self.judge()
        with self._lock:
            return [
                finding
                for name, service in sorted(self._services.items())
                if service.recent.spans
                for finding in _told(name, service, adjusted=adjusted)
            ]

    def judge(self) -> None:
        """Look at the trace ids that have come since the last look. A full lot takes a millisecond or two."""
        with self._lock:
            grown = [
                (lot, lot.ids, frozenset(lot.ids))
                for service in self._services.values()
                for lot in (service.begun, service.continued)
                if len(lot.ids) > lot.judged
            ]
        for lot, ids, copied in grown:  # not under the lock: spans are on their way meanwhile
            kept = kept_by(copied)
            with self._lock:
                if lot.ids is ids:
                    lot.judged = len(copied)
                if kept is not None or len(copied) >= MOST:
                    lot.kept = kept

    def shares(self) -> dict[str, float]:
        """Service -> about how much of its requests arrives, for those of which it is not all."""
        with self._lock:
            shares = {name: service.share() for name, service in self._services.items()}
        return {name: share for name, share in shares.items() if share is not None}

    def twins(self) -> dict[str, Twins]:
        """Service -> two of its instrumentations that look as if they reported the same requests."""
        with self._lock:
            found = {name: twins(service.entered) for name, service in self._services.items()}
        return {name: two for name, two in found.items() if two is not None}

    def _met(self, named: str) -> _Service:
        """The service of a name that is not among those known, or not as it is shown."""
        name = shown(named)
        if name not in self._services and len(self._services) >= MOST_SERVICES:
            name = OTHERS
        return self._services.setdefault(name, _Service())

    def _note_lost(self, service: _Service, lost: Mapping[str, int]) -> None:
        for process, number in lost.items():
            # A batch that was held up by retries says less than a later one has said.
            before = service.lost.pop(process, 0)
            service.lost[process] = max(before, number)
            if number > before:
                self.lost += number - before
                service.lost_more = True
        while len(service.lost) > MOST_PROCESSES:
            del service.lost[next(iter(service.lost))]


def shown(name: str) -> str:
    """A name that can be written into a log and onto a page of metrics, whatever a client calls its service."""
    return name[:LONGEST_NAME].encode("utf-8", "replace").decode()


def _told(name: str, service: _Service, *, adjusted: bool) -> list[Finding]:
    """What one service gives to say, after which its counts begin anew."""
    recent = service.recent
    recent.lost = service.lost if service.lost_more else {}
    told = list(by_counts(name, recent, adjusted=adjusted))
    told += by_trace_ids(name, recent, service.begun.kept, service.continued.kept)
    service.weighed_share = share_by_weights(recent) if recent.several else None
    service.lost_more = False
    service.recent = Arrivals()
    service.begun.renew()
    service.continued.renew()
    return told
