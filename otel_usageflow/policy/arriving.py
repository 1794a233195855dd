"""Notes what the SERVER spans of a batch tell of requests that did not arrive; see policy/completeness.py."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from otel_usageflow.model.arrivals import Arrivals
from otel_usageflow.model.attributes import Found, read
from otel_usageflow.model.spans import Span
from otel_usageflow.policy.sampling import weight
from otel_usageflow.policy.trace_ids import MOST

SDK_PROCESS: Final = "otel_usageflow.sdk.process"
"""Resource attribute of `otel_usageflow.sdk`: a random name for the process."""
SDK_LOST: Final = "otel_usageflow.sdk.lost"
"""Resource attribute of `otel_usageflow.sdk`: the requests that the process had to give up since it began."""
KEYS: Final = frozenset({SDK_PROCESS, SDK_LOST})

_HEAVIEST: Final = 1_000_000.0
"""Heavier spans do not spoil the estimate: a caller can write any weight."""
_LONGEST_NAME: Final = 64
_NO_TRACE: Final = bytes(16)


def note(arrivals: dict[str, Arrivals], service: str, resource: Found, servers: Sequence[Span]) -> None:
    """Add what these SERVER spans of one resource say.

    Trace ids are taken of all of them, not of roots only: a service that follows callers who sample misses requests
    like one that samples itself, and their ids show it as well. Those that callers began are kept apart, because
    among roots that all arrive they would show nothing. Requests of one trace share its id, and each id counts once.
    """
    seen = arrivals.get(service)
    if seen is None:
        seen = arrivals[service] = Arrivals()
    seen.spans += len(servers)
    begun, continued = seen.begun, seen.continued
    room = MOST - max(len(begun), len(continued))
    for span in servers[: max(room, 0)]:
        trace_id = span.trace_id
        if len(trace_id) == 16 and trace_id != _NO_TRACE:
            (continued if span.parent_span_id else begun).add(trace_id)
    for span in servers:
        if (state := span.trace_state) and b"ot" in state:
            _note_state(seen, state, span.trace_id)
    if SDK_LOST in resource:
        _note_lost(seen, resource)


def _note_state(seen: Arrivals, state: bytes, trace_id: bytes) -> None:
    said = weight(state, trace_id)
    if isinstance(said, Fraction):
        seen.weighed += 1
        requests = said.numerator / said.denominator  # a quarter of what float(said) costs
        seen.several += requests != 1
        seen.stands_for += min(requests, _HEAVIEST)
    elif said is not None:
        seen.doubts[said.value] += 1


def _note_lost(seen: Arrivals, resource: Found) -> None:
    process, lost = read(resource, SDK_PROCESS), read(resource, SDK_LOST)
    if isinstance(process, str) and isinstance(lost, int) and not isinstance(lost, bool) and lost >= 0:
        process = process[:_LONGEST_NAME]
        seen.lost[process] = max(lost, seen.lost.get(process, 0))
