"""What the processor shows on `/metrics`: of its tokens and keys, and of requests that are missing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from otel_usageflow.component import Measurement
from otel_usageflow.policy.jwt_cause import Cause
from otel_usageflow.processors.usage_policy.arrival_watch import ArrivalWatch, shown
from otel_usageflow.processors.usage_policy.key_upkeep import KeyUpkeep


def refused_tokens(processor: str, counts: Mapping[tuple[str, Cause], int]) -> Iterator[Measurement]:
    """Tokens that named no user, by policy and cause."""
    for (policy, cause), count in counts.items():
        yield Measurement(
            "otel_usageflow_jwt_rejected_total",
            "counter",
            count,
            "JSON Web Tokens that named no user, by what was wrong with them.",
            {"processor": processor, "policy": policy, "cause": cause.value},
        )


def keys(
    processor: str, upkeeps: Sequence[KeyUpkeep], loads_before: Mapping[tuple[str, str], int]
) -> Iterator[Measurement]:
    """How many keys each place has, and how often it was read; rings of one place count together.

    `loads_before`: those of rings that are gone, because counts must not go back when policies change.
    """
    known: Counter[str] = Counter()
    loads: Counter[tuple[str, str]] = Counter()
    for one in upkeeps:
        place = one.ring.place
        known[place] = max(known[place], one.ring.keys.current)
        for outcome, count in one.outcomes.items():
            loads[place, outcome] += count
    for place, count in known.items():
        yield Measurement(
            "otel_usageflow_jwt_keys",
            "gauge",
            count,
            "Keys that tokens are verified with now, by where they come from.",
            {"processor": processor, "place": place},
        )
    for (place, outcome), count in loads.items():
        count += loads_before.get((place, outcome), 0)
        yield Measurement(
            "otel_usageflow_jwt_key_loads_total",
            "counter",
            count,
            "Attempts to load keys, by what became of them.",
            {"processor": processor, "place": place, "outcome": outcome},
        )


def arrivals(processor: str, watch: ArrivalWatch) -> Iterator[Measurement]:
    """What spans tell of requests that did not arrive, or came twice."""
    yield Measurement(
        "otel_usageflow_sampled_requests_total",
        "counter",
        watch.several,
        "SERVER spans whose trace state says that they stand for several requests.",
        {"processor": processor},
    )
    for cause, count in watch.doubts.items():
        yield Measurement(
            "otel_usageflow_unusable_weights_total",
            "counter",
            count,
            "SERVER spans whose trace state speaks of sampling so that it cannot be used, by cause.",
            {"processor": processor, "cause": cause},
        )
    yield Measurement(
        "otel_usageflow_sdk_lost_requests_total",
        "counter",
        watch.lost,
        "Requests that processes with otel_usageflow.sdk had to give up, as far as they said.",
        {"processor": processor},
    )
    for service, share in watch.shares().items():
        yield Measurement(
            "otel_usageflow_sampled_share",
            "gauge",
            share,
            "About how much of the requests of a service arrives, where it looks sampled; from 0 to 1.",
            {"processor": processor, "service": service},
        )
    for service, two in watch.twins().items():
        yield Measurement(
            "otel_usageflow_perhaps_doubled_requests",
            "gauge",
            two.requests,
            "Requests of late that two instrumentations of a service report in equal number, perhaps the same ones.",
            {"processor": processor, "service": service, "scopes": " and ".join(map(shown, two.scopes))},
        )
