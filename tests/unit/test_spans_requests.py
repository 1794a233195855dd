"""What a request is: a SERVER span of HTTP that enters its process. See docs/processors/usage_policy.md."""

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from span_builder import LOCAL, NOW, PARENT, REMOTE, engine, http, payload, policy, span

from otel_usageflow.errors import InvalidData
from otel_usageflow.model.usage import UnflaggedSpan
from otel_usageflow.policy.nesting import drop_inner

ALL = policy(endpoint="* /**")
TRACE = bytes(15) + b"\x01"


def judged(*spans: Span, **where: object) -> object:
    return engine(ALL).evaluate(payload(*spans, **where), NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "parent", "requests", "unflagged"),
    [
        (LOCAL, b"", 1, 0),
        (REMOTE, b"", 1, 0),
        (REMOTE, PARENT, 1, 0),
        (REMOTE | 1, PARENT, 1, 0),
        (LOCAL | 3, PARENT, 0, 0),
        (LOCAL, PARENT, 0, 0),
        (LOCAL, bytes(8), 1, 0),
        (LOCAL | 0xFFFFFC00, PARENT, 0, 0),
        (0, b"", 1, 1),
        (0, PARENT, 1, 1),
        (1, PARENT, 1, 1),
        (0x200, PARENT, 1, 1),
    ],
)
def test_flags_say_whether_a_server_span_enters_its_process(
    flags: int, parent: bytes, requests: int, unflagged: int
) -> None:
    """No parent or a remote one is a request; a local one is not; an SDK that does not say leaves it open."""
    batch = judged(span(http(), flags=flags, parent=parent))
    assert (batch.spans, batch.requests, len(batch.unflagged)) == (1, requests, unflagged)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [0, 1, 3, 4, 5, 99])
def test_only_server_spans_are_requests(kind: int) -> None:
    """ASGI's `http send` spans have a status code, and are INTERNAL."""
    batch = engine(ALL).evaluate(payload(span(http(), kind=kind)), NOW)
    assert (batch.spans, batch.requests, batch.unflagged) == (1, 0, [])


@pytest.mark.parametrize(
    ("trace_id", "span_id", "parent"),
    [
        (b"", bytes(7) + b"\x01", b""),
        (bytes(16), bytes(7) + b"\x01", b""),
        (TRACE[:-1], bytes(7) + b"\x01", b""),
        (TRACE + b"\x01", bytes(7) + b"\x01", b""),
        (TRACE, b"", b""),
        (TRACE, bytes(8), b""),
        (TRACE, b"\x01", b""),
        (TRACE, bytes(7) + b"\x01", b"\x01"),
    ],
)
@pytest.mark.parametrize("flags", [0, REMOTE])
def test_a_span_without_identity_is_counted_and_never_billed(
    trace_id: bytes, span_id: bytes, parent: bytes, flags: int
) -> None:
    """Ids that are missing, zero or of a wrong length cannot be billed once; a good span beside it is."""
    bad = span(http(), flags=flags)
    bad.trace_id, bad.span_id, bad.parent_span_id = trace_id, span_id, parent
    batch = engine(ALL).evaluate(payload(bad, span(http())), NOW)
    assert (batch.spans, batch.requests, batch.malformed, len(batch.records)) == (2, 1, 1, 1)
    assert batch.unflagged == []


def test_every_unflagged_server_span_is_listed() -> None:
    """The ledger has to know them all: roots, unmatched ones, and those that are no HTTP."""
    root = span(http(), number=1, flags=0)
    unmatched = span({"http.method": "GET", "http.target": "/other"}, number=2, parent=PARENT, flags=0)
    grpc = span({"rpc.system": "grpc"}, number=3, flags=0)
    batch = engine(policy()).evaluate(payload(root, unmatched, grpc), NOW)
    assert [(one.span_id[-1], one.parent_span_id, one.service) for one in batch.unflagged] == [
        (1, b"", "shop"),
        (2, PARENT, "shop"),
        (3, b"", "shop"),
    ]
    assert batch.requests == 2


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_of_nested_unflagged_spans_the_outermost_is_the_request(order: tuple[int, ...]) -> None:
    """Whichever comes first, and in chains: a SERVER span below a SERVER span of its service is the same request."""
    spans = [
        span(http(), number=1, flags=0),
        span(http(), number=2, parent=1, flags=0),
        span(http(), number=3, parent=2, flags=0),
        span(http(), number=4, parent=99, flags=0),
    ]
    batch = engine(policy()).evaluate(payload(*(spans[index] for index in order)), NOW)
    assert (batch.spans, batch.requests) == (4, 2)
    assert {record.span_id[-1] for record in batch.records} == {1, 4}
    assert len(batch.unflagged) == 4


def test_nesting_ends_at_the_service() -> None:
    """A proxy and the application behind it are two services, and two requests."""
    outer, inner = span(http(), number=1, flags=0), span(http(), number=2, parent=1, flags=0)
    both = payload(outer, service="proxy") + payload(inner, service="shop")
    assert engine(policy()).evaluate(both, NOW).requests == 2
    same = payload(outer, service="shop") + payload(inner, service="shop")
    assert engine(policy()).evaluate(same, NOW).requests == 1


def test_drop_inner_knows_spans_by_trace_and_service() -> None:
    """A span id alone says nothing: parents are of the same trace."""
    one, two = bytes(7) + b"\x01", bytes(7) + b"\x02"
    outer = UnflaggedSpan(TRACE, one, b"", "shop", 0)
    inner = UnflaggedSpan(TRACE, two, one, "shop", 0)
    assert drop_inner([inner, outer]) == {(TRACE, two)}
    assert drop_inner([inner]) == set()
    assert drop_inner([inner, outer._replace(trace_id=bytes(16))]) == set()
    assert drop_inner([inner, outer._replace(service="proxy")]) == set()
    assert drop_inner([outer._replace(parent_span_id=one)]) == set()


@pytest.mark.parametrize("flags", [0, REMOTE])
def test_excluded_scopes_have_no_requests(flags: int) -> None:
    """Spans of an excluded scope are read, and are nothing else."""
    judged = engine(ALL, exclude_scopes=["fastapi"])
    batch = judged.evaluate(payload(span(http(), flags=flags), scope="fastapi"), NOW)
    assert (batch.spans, batch.requests, batch.unmatched, batch.unflagged) == (1, 0, 0, [])
    assert judged.evaluate(payload(span(http(), flags=flags), scope="fastapi.x"), NOW).requests == 1


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05abc", b"\x0a", payload(span(http()))[:-3]])
def test_what_is_no_request_is_invalid(data: bytes) -> None:
    """Bytes that are no protobuf are refused as a whole."""
    with pytest.raises(InvalidData):
        engine(ALL).evaluate(data, NOW)


def test_an_empty_request_is_nothing() -> None:
    """No bytes are a valid message without spans."""
    assert engine(ALL).evaluate(b"", NOW).spans == 0


def test_broken_text_costs_nobody_else() -> None:
    """Invalid UTF-8 in names and values of one span leaves the others alone."""
    data = payload(
        span(http(http__request__header__x_account_id="acme")), span(http(junk="JUNKJUNK")), scope="SCOPESCOPE"
    )
    data = data.replace(b"JUNKJUNK", b"\xff\xfe\xfd\xfc\xff\xfe\xfd\xfc").replace(b"SCOPESCOPE", b"\xff" * 10)
    data = data.replace(b"a span", b"\xff\xff\xff\xff\xff\xff")
    batch = engine(policy()).evaluate(data, NOW)
    assert [record.user for record in batch.records] == ["acme", None]
