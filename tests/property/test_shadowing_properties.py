"""What holds for every set of policies: which of them never bill, because earlier ones take all that they would."""

from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.policy.calls import AnyEndpoint, CallEndpoint, parse_any_endpoint
from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.endpoint import Part, Segment
from otel_usageflow.policy.shadowing import Earlier


def _named(parts: list[str]) -> list[str]:
    """Parameters, each by a name of its own."""
    return [f":p{index}" if part == ":p" else part for index, part in enumerate(parts)]


_parts = st.sampled_from(["a", "b", ":p", "*", ""])
_ends = st.sampled_from(["", "/**", "/*rest"])
_methods = st.sampled_from(["*", "GET", "POST", "GET|POST"])
_paths = st.builds(
    lambda method, parts, end: f"{method} /{'/'.join(_named(parts))}{end if parts else end.removeprefix('/')}",
    _methods,
    st.lists(_parts, max_size=3),
    _ends,
)
_calls = st.sampled_from(
    [
        "grpc *",
        "grpc a.B/*",
        "grpc a.B/C",
        "grpc a.D/C",
        "graphql *",
        "graphql query *",
        "graphql * x",
        "graphql query x",
    ]
)
_services = st.sampled_from([[], ["one"], ["one", "two"]])


@st.composite
def _policies(draw: st.DrawFn) -> list[PolicyConfig]:
    endpoints = draw(st.lists(st.lists(_paths | _calls, min_size=1, max_size=2), min_size=1, max_size=6))
    return [
        PolicyConfig.model_validate(
            {
                "name": f"p{number}",
                "endpoint": written,
                "user": {"header": "x"},
                "customer": {"metadata_field": "f"},
                "event_name": "e",
                "match": {"service": service} if (service := draw(_services)) else {},
            }
        )
        for number, written in enumerate(endpoints)
    ]


@given(_policies())
def test_a_walk_finds_what_comparing_each_with_each_does(policies: list[PolicyConfig]) -> None:
    """A policy never bills if, for each method of each endpoint, the first of the earlier ones takes all of it."""
    earlier = Earlier()
    endpoints = [[parse_any_endpoint(text) for text in policy.endpoint] for policy in policies]
    for index, policy in enumerate(policies):
        assert earlier.taking_all_of(policy, endpoints[index]) == _one_by_one(index, policies, endpoints)
        earlier.add(index, policy, endpoints[index])


def _one_by_one(index: int, policies: list[PolicyConfig], endpoints: list[list[AnyEndpoint]]) -> list[int] | None:
    by: set[int] = set()
    for narrow in endpoints[index]:
        for method in (() if isinstance(narrow, CallEndpoint) else narrow.methods) or (None,):
            takers = (
                number
                for number in range(index)
                if _asks_for_no_more(policies[number], policies[index])
                and any(_covers(wide, narrow, method) for wide in endpoints[number])
            )
            if (taker := next(takers, None)) is None:
                return None
            by.add(taker)
    return sorted(by)


def _asks_for_no_more(wide: PolicyConfig, narrow: PolicyConfig) -> bool:
    ours, theirs = wide.match.service, narrow.match.service
    return not ours or (bool(theirs) and set(theirs or ()) <= set(ours))


def _covers(wide: AnyEndpoint, narrow: AnyEndpoint, method: str | None) -> bool:
    if isinstance(narrow, CallEndpoint):
        if isinstance(wide, CallEndpoint):
            same = wide.protocol is narrow.protocol
            return same and wide.group in (None, narrow.group) and wide.name in (None, narrow.name)
        everything = not wide.methods and [segment.part for segment in wide.segments] == [Part.REST]
        return everything and narrow.protocol.value == "graphql"
    if isinstance(wide, CallEndpoint) or (wide.methods and method not in wide.methods):
        return False
    for index, segment in enumerate(wide.segments):
        if segment.part is Part.REST:
            return True
        if index >= len(narrow.segments) or not _covers_segment(segment, narrow.segments[index]):
            return False
    return len(wide.segments) == len(narrow.segments)


def _covers_segment(wide: Segment, narrow: Segment) -> bool:
    if narrow.part is Part.REST:
        return False
    if wide.part is Part.ONE:
        return narrow.part is Part.ONE or narrow.text != ""
    return narrow == wide
