"""What the spans of a service tell of the requests that did not arrive, or that came twice."""

from dataclasses import dataclass, field

from otel_usageflow.model.tally import Tally


@dataclass(slots=True)
class Arrivals:
    """What was seen of one service. The counts are of SERVER spans, one that is sent again included."""

    spans: int = 0
    entered: Tally[str] = field(default_factory=Tally)
    """Instrumentation scope -> requests that it reported."""
    begun: set[bytes] = field(default_factory=set)
    """Some distinct ids of traces that begin here, 16 bytes each."""
    continued: set[bytes] = field(default_factory=set)
    """Some of traces that a caller began, who may have decided whether they are sampled."""
    weighed: int = 0
    """Spans whose trace state says for how many requests they stand."""
    several: int = 0
    """Those of them that stand for more than one."""
    stands_for: float = 0.0
    """About how many requests all of `weighed` stand for: an estimate to show, never to bill by."""
    doubts: Tally[str] = field(default_factory=Tally)
    """Why a trace state that speaks of sampling cannot be used -> spans."""
    lost: dict[str, int] = field(default_factory=dict)
    """A process that bills with `otel_usageflow.sdk` -> requests that it had to give up since it began."""

    def add(self, other: "Arrivals") -> None:
        """Add the counts of another batch. The rest is left to the caller, who knows what is enough."""
        self.spans += other.spans
        self.weighed += other.weighed
        self.several += other.several
        self.stands_for += other.stands_for
        for cause, count in other.doubts.items():
            self.doubts[cause] += count
