"""Do all requests arrive? What spans say about that, in words and numbers.

Pure, so that everybody can ask: the service for its log and metrics, `preview` and `discover` for recorded spans.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from otel_usageflow.model.arrivals import Arrivals
from otel_usageflow.policy.sampling import Doubt
from otel_usageflow.policy.trace_ids import CONSISTENT, Kept, kept_by

DOCS: Final = "docs/sampling.md"
REMEDY: Final = (
    "record every SERVER span (AlwaysOn, or otel_usageflow.sdk), or branch off to billing before what samples them: "
    f"{DOCS}"
)
_UNNAMED: Final = "(no service.name)"


class Evidence(StrEnum):
    """What says that requests are missing, or that it cannot be told."""

    WEIGHTS = "weights"
    TRACE_IDS = "trace_ids"
    CALLERS = "callers"
    SDK = "sdk"
    DOUBTS = "doubts"


class Finding(NamedTuple):
    """One thing to say about one service."""

    service: str
    """`service.name`, possibly empty."""
    evidence: Evidence
    share: float | None
    """About how much of all requests arrives, from 0 to 1, if that can be estimated."""
    text: str
    remedy: str


def findings(arrivals: Mapping[str, Arrivals], *, adjusted: bool = False) -> Iterator[Finding]:
    """All there is to say about these services, in the order of their names.

    Args:
        arrivals: what was seen, by service.
        adjusted: whether requests are counted by their weight (`sampling: adjust`).
    """
    for service in sorted(arrivals):
        seen = arrivals[service]
        yield from by_counts(service, seen, adjusted=adjusted)
        yield from by_trace_ids(service, seen, kept_by(seen.begun), kept_by(seen.continued))


def by_counts(service: str, seen: Arrivals, *, adjusted: bool = False) -> Iterator[Finding]:
    """What is said by all but the trace ids."""
    name = service or _UNNAMED
    if seen.several:
        yield _weights(service, name, seen, adjusted=adjusted)
    if number := seen.doubts.total():
        causes = ", ".join(f"{count} {cause}" for cause, count in sorted(seen.doubts.items()))
        yield Finding(
            service,
            Evidence.DOUBTS,
            None,
            f"{_requests(number)} of {name} carry a sampling weight that cannot be used ({causes}); each counts once",
            f"see {DOCS}, 'Which weights are believed'",
        )
    if lost := sum(seen.lost.values()):
        yield Finding(
            service,
            Evidence.SDK,
            None,
            f"otel_usageflow.sdk in {name} had to give up {_requests(lost)}, which nobody is billed for",
            "see usageflow.stats() there: its queue was full, or the service refused them",
        )


def by_trace_ids(service: str, seen: Arrivals, begun: Kept | None, continued: Kept | None) -> Iterator[Finding]:
    """What is said by the ids of traces that begin here, and of those that callers began."""
    # A threshold in the trace state says the same of the same trace ids, and says it better.
    said = seen.several > 0
    if begun is not None and not (said and begun.rule == CONSISTENT):
        text = f"requests of {service or _UNNAMED} look sampled at about {percent(begun.share)}: {_why(begun)}"
        yield Finding(service, Evidence.TRACE_IDS, begun.share, text, REMEDY)
    if continued is not None and not (said and continued.rule == CONSISTENT):
        text = (
            f"requests of {service or _UNNAMED} that continue the traces of callers look sampled at about "
            f"{percent(continued.share)}: {_why(continued)}; callers decide that with their traceparent, unless they "
            "send one only with what they sample"
        )
        yield Finding(service, Evidence.CALLERS, continued.share, text, REMEDY)


def _why(kept: Kept) -> str:
    return f"the ids of {kept.traces} traces are those that {kept.rule} keeps"


def share_by_weights(seen: Arrivals) -> float:
    """About how much of all requests arrives, if what does not say stands for itself."""
    return seen.spans / (seen.spans - seen.weighed + seen.stands_for) if seen.spans else 1.0


def percent(share: float) -> str:
    """For people: `10 %`."""
    return f"{share * 100:.2g} %"


def _weights(service: str, name: str, seen: Arrivals, *, adjusted: bool) -> Finding:
    share = share_by_weights(seen)
    text = (
        f"{seen.several} of {_requests(seen.spans)} of {name} stand for several (ot=th in tracestate): about "
        f"{percent(share)} of all arrive"
    )
    if seen.weighed < seen.spans:
        text += "; some say nothing, so the weights may be those of callers, which an AlwaysOn sampler passes on"
    text += "; they are counted by weight, which is an estimate" if adjusted else "; each counts once"
    return Finding(service, Evidence.WEIGHTS, share, text, REMEDY)


def _requests(number: int) -> str:
    return f"{number} request{'' if number == 1 else 's'}"


def unusable() -> tuple[str, ...]:
    """The causes that `Arrivals.doubts` counts by."""
    return tuple(doubt.value for doubt in Doubt)
