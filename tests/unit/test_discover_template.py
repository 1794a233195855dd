"""Which endpoint a request belongs to, where no policy says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.policy.discovery.template import Widths, identifies, is_static, of_request, written
from otel_usageflow.policy.endpoint import Endpoint, Part, Segment, parse_endpoint_text
from otel_usageflow.policy.paths import fits


def template(path: str, route: str | None = None) -> str:
    segments = path.strip("/").split("/") if path.strip("/") else []
    made = of_request(segments, route)
    assert made is not None
    return written(made)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/items/17", "/items/{id}"),
        ("/items/17/parts/18", "/items/{id}/parts/{id2}"),
        ("/items/6f9619ff-8b86-d011-b42d-00c04fc964ff", "/items/{id}"),
        ("/items/deadbeef01", "/items/{id}"),
        ("/items/cus_9s6XKzkNRiz8i3", "/items/{id}"),
        ("/items/a@example.com", "/items/{id}"),
        ("/items/2026-11-22", "/items/{id}"),
        ("/items/a b", "/items/{id}"),
        ("/items/" + "x" * 41, "/items/{id}"),
        ("/users/zoe", "/users/{id}"),
        ("/users/zoe/books", "/users/{id}/books"),
        ("/users/me", "/users/me"),
        ("/models/gpt:generate", "/models/gpt:generate"),
        ("/oauth2/token", "/oauth2/token"),
        ("/static/app.3f2a9c.css", "/static/{id}"),
        ("/docs/:odd", "/docs/%3Aodd"),
    ],
)
def test_what_looks_like_an_identifier_is_a_parameter(path: str, expected: str) -> None:
    """Numbers, UUIDs, hexadecimal and long texts, and whoever stands behind `users`; words stay."""
    assert template(path) == expected


@pytest.mark.parametrize(
    ("path", "route", "expected"),
    [
        ("/shops/north/items", "/shops/{shop}/items", "/shops/{shop}/items"),
        ("/shops/north", "/shops/<string:shop>", "/shops/{shop}"),
        ("/shops/north", "/shops/:shop", "/shops/{shop}"),
        ("/shops/north", "shops/<str:shop>/", "/shops/{shop}"),
        ("/shops/north/items", "/shops/<path:shop>/items", "/shops/{shop}/items"),
        ("/shops/a/b/items", "/shops/<path:shop>/items", "/shops/{shop}/{id}/items"),
        ("/files/a/b", "/files/{rest:path}", "/files/*rest"),
        ("/mounted/items", "/items", "/mounted/items"),
        ("/words/7", "^words/([0-9]+)$", "/words/{id}"),
        ("/words/7", "/**", "/words/{id}"),
    ],
)
def test_the_route_names_the_endpoint_if_it_fits(path: str, route: str, expected: str) -> None:
    """A framework's own template is better than a guess, unless the path says otherwise."""
    assert template(path, route) == expected


def test_a_route_without_a_path() -> None:
    """Without a path the route is all there is; without both there is no endpoint."""
    made = of_request(None, "/users/{user}")
    assert made is not None
    assert written(made) == "/users/{user}"
    assert of_request(None, None) is None


def test_a_place_with_many_words_becomes_a_parameter() -> None:
    """Names of users that look like words are given away by their number."""
    widths = Widths(widest=3)
    shops = [(Segment(Part.LITERAL, "shops"), Segment(Part.LITERAL, name)) for name in "abcd"]
    assert [widths.settle(shop)[1] for shop in shops] == [False, False, False, True]
    settled = {widths.settle(shop)[0] for shop in shops}
    assert {written(one) for one in settled} == {"/shops/{id}"}


@given(st.lists(st.text(max_size=12), max_size=5))
def test_an_endpoint_reads_as_it_was_written(path: list[str]) -> None:
    """Whatever a path holds, its endpoint is valid, fits the path, and is the same when read again."""
    if path == [""]:
        return  # `//` is the path without segments
    made = of_request(path, None)
    assert made is not None
    endpoint = parse_endpoint_text(f"GET {written(made)}")
    assert fits(endpoint, "GET", path) or any(
        segment.text == "" and not text for segment, text in zip(made, path, strict=True)
    )
    assert [segment.part for segment in endpoint.segments] == [segment.part for segment in made]
    literals = [
        (one.text, two.text) for one, two in zip(endpoint.segments, made, strict=True) if one.part is Part.LITERAL
    ]
    assert all(one == two for one, two in literals)
    assert fits(Endpoint(frozenset(), made, ""), None, path)


@given(st.text(max_size=60))
def test_only_short_plain_words_are_shown(text: str) -> None:
    """What stands in an endpoint has the form of a word; all else could be somebody."""
    if text and not identifies(text) and not is_static(text):
        assert len(text) <= 40
        assert all(char.isascii() and (char.isalnum() or char in "._~:$-") for char in text)
