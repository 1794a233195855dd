"""What holds for policies on any input: one answer, the same answer, and never an accident."""

import string
from contextlib import suppress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from span_builder import NOW, REMOTE, engine, http, payload, policy, span, user_of

from otel_usageflow.errors import InvalidData
from otel_usageflow.model.usage import UnflaggedSpan, UsageBatch
from otel_usageflow.policy.endpoint import parse_endpoint_text
from otel_usageflow.policy.http import path_segments
from otel_usageflow.policy.match import Selection
from otel_usageflow.policy.nesting import drop_inner
from otel_usageflow.policy.paths import PathTree, fits
from otel_usageflow.policy.quantity import exact
from otel_usageflow.policy.route import parse_route
from otel_usageflow.policy.text import PLACEHOLDERS, is_user, one_text, user_text

SEGMENTS = st.sampled_from(["a", "b", "c", "%2F", "a%20b", "é", "", ".", ":x"])
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda parts: "/" + "/".join(parts))
PATTERNS = st.lists(st.sampled_from(["a", "b", "c", "*", ":x", "a%20b", "é"]), max_size=4).flatmap(
    lambda parts: st.sampled_from([parts, [*parts, "**"]])
)
METHODS = st.sampled_from(["GET", "POST", "GET|POST", "*"])
ENDPOINTS = st.builds(
    lambda method, parts: f"{method} /{'/'.join(f':p{i}' if part == ':x' else part for i, part in enumerate(parts))}",
    METHODS,
    PATTERNS,
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=8),
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)


@given(st.lists(ENDPOINTS, max_size=12), PATHS, st.sampled_from(["GET", "POST", "PUT", None]))
def test_the_tree_agrees_with_asking_every_endpoint(endpoints: list[str], path: str, method: str | None) -> None:
    """Finding policies in one walk gives what asking each of them gives."""
    parsed = [parse_endpoint_text(text) for text in endpoints]
    tree = PathTree(
        [(endpoint, index) for index, endpoint in enumerate(parsed)],
        lambda chosen: Selection(chosen, dict.fromkeys(range(len(parsed)), ())),
    )
    segments = path_segments(path)
    found = {index for leaf in tree.by_path(segments) for index in leaf.of(method).policies}
    assert found == {index for index, endpoint in enumerate(parsed) if fits(endpoint, method, segments)}


@given(PATHS)
def test_one_trailing_slash_changes_nothing(path: str) -> None:
    """A path with a slash at its end is the path without it, unless it ends in one already."""
    if not path.endswith("/"):
        assert path_segments(path) == path_segments(path + "/")


@given(st.text(alphabet=string.printable + "é"))
@example("/users/{id:[0-9]{1,3}}/x")
@example("{{{")
def test_any_route_is_read_or_refused(text: str) -> None:
    """Reading a route never fails, and reading it again gives the same."""
    assert parse_route(text) == parse_route(text)


@given(st.text())
def test_any_endpoint_is_read_or_explained(text: str) -> None:
    """An endpoint is one, or a ValueError says why not; nothing else is raised."""
    with suppress(ValueError):
        parse_endpoint_text(text)


@given(VALUES)
def test_a_user_is_clean_and_its_text_is_stable(value: Any) -> None:
    """A user is trimmed, not blank, no placeholder, at most 500 characters, UTF-8, and names itself again."""
    values = [list(value)] if isinstance(value, list) else [value]
    if isinstance(value, dict):
        return
    user = user_text(values, PLACEHOLDERS)
    if user is not None:
        assert user == user.strip() != ""
        assert len(user) <= 500
        user.encode()
        assert is_user(user, PLACEHOLDERS)
        assert user_text([user], PLACEHOLDERS) == user
        assert one_text([user, user]) == user


@given(st.sampled_from(sorted(PLACEHOLDERS)), st.text(" \t", max_size=3), st.text(" \t", max_size=3))
def test_a_placeholder_is_never_a_user(text: str, before: str, after: str) -> None:
    """However much space is around it, and in whatever source."""
    value = before + text + after
    assert user_of({"http.request.header.x-account-id": [value]}, {"header": "x-account-id"}) is None
    assert user_of({"http.request.header.x-key": value}, {"api_key": {"header": "x-key"}}) is None
    assert user_of({"enduser.id": value}, {"metadata": "enduser.id"}) is None


@given(VALUES)
def test_a_quantity_is_exact_and_in_bounds_or_none(value: Any) -> None:
    """Every value is a number from 0 to below 10^18 with at most 18 decimals, or no quantity."""
    if isinstance(value, dict):
        return
    amount = exact(value)
    if amount is not None:
        assert 0 <= amount < 10**18
        assert amount * 10**18 == int(amount * 10**18)
        assert exact(amount if isinstance(amount, int) else format(amount, "f")) == amount


KEYS = st.sampled_from(
    [
        *("http.request.method", "http.method", "url.path", "http.target", "http.url", "http.route", "url.query"),
        *("http.response.status_code", "http.status_code", "rpc.system", "server.address", "http.host"),
        *("http.request.header.x-account-id", "http.request.header.authorization", "http.request.body.content"),
        *("enduser.id", "tokens", "plan", "x" * 200),
    ]
)
ANY_ATTRIBUTES = st.lists(
    st.tuples(KEYS, VALUES | st.sampled_from(["POST", "/chat", "Bearer x.y.z", "a=1&a=2"])), max_size=8
)
EVERYTHING = engine(
    policy(
        name="all",
        endpoint="* /**",
        user=[
            {"header": "x-account-id"},
            {"jwt": {"claim": "sub", "verify": "none"}},
            {"query": "a"},
            {"body": "a.b"},
            {"metadata": "enduser.id"},
        ],
        quantity={"attributes": ["tokens"]},
        payload={"plan": {"attribute": "plan"}},
        status="any",
    ),
    policy(
        name="some",
        endpoint="POST /:id",
        user={"path": "id"},
        event_name="b",
        match={"attributes": {"plan": ["a", 1]}},
    ),
    policy(name="host", endpoint="POST /chat", event_name="c", match={"host": "shop.example.com"}),
)


@given(ANY_ATTRIBUTES, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_any_span_has_one_answer(attributes: Any, flags: int, end: int) -> None:
    """Policies survive any attributes, and give the same answer again; whatever is billed is complete."""
    data = payload(span(attributes, flags=flags, end=end))
    batch = EVERYTHING.evaluate(data, NOW)
    assert batch == EVERYTHING.evaluate(data, NOW)
    for record in batch.records:
        assert (record.user is None) == (record.reason == "no_user")
        assert record.at_ns <= NOW
        if record.reason is None:
            assert record.quantity is not None


@given(st.binary(max_size=200))
@example(b"\x0a\x08\x12\x06\x12\x04\x4a\x02\x0a\x7f")
def test_any_bytes_are_read_or_invalid(data: bytes) -> None:
    """Arbitrary bytes raise InvalidData and nothing else."""
    with suppress(InvalidData):
        EVERYTHING.evaluate(data, NOW)


@given(st.data(), st.lists(st.integers(0, 255), min_size=1, max_size=4))
def test_a_damaged_request_is_read_or_invalid(data: st.DataObject, bytes_put: list[int]) -> None:
    """A real request with bytes changed anywhere raises InvalidData and nothing else."""
    attributes = http(http__request__header__x_account_id=["acme"], tokens=5, plan="a")
    damaged = bytearray(payload(span(attributes), span(attributes, flags=0)))
    for byte in bytes_put:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = byte
    with suppress(InvalidData):
        EVERYTHING.evaluate(bytes(damaged), NOW)


SERVERS = st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 8), st.sampled_from([0, 0, REMOTE, 0x100])),
    max_size=8,
    unique_by=lambda one: one[0],
)


def _span(number: int, parent: int, flags: int) -> Span:
    attributes = http(http__request__header__x_account_id="acme")
    return span(attributes, number=number, parent=parent or b"", flags=flags)


def _charges(batches: list[UsageBatch]) -> set[bytes]:
    """What is billed in the end: the records, less the inner spans that show once all batches are known."""
    unflagged: list[UnflaggedSpan] = [one for batch in batches for one in batch.unflagged]
    inner = drop_inner(unflagged)
    return {r.span_id for batch in batches for r in batch.records if (r.trace_id, r.span_id) not in inner}


@given(SERVERS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_batches_and_their_order_change_nothing(servers: Any, random: Any, pieces: int) -> None:
    """However spans are split over requests and in whatever order, the same ones are billed."""
    judged = engine(policy())
    spans = [_span(*one) for one in servers]
    whole = _charges([judged.evaluate(payload(*spans), NOW)])
    random.shuffle(spans)
    batches = [judged.evaluate(payload(*spans[start::pieces]), NOW) for start in range(pieces)]
    assert _charges(batches) == whole
