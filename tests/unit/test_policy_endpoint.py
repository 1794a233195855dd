"""Endpoints of policies, and the paths and routes that they take."""

import pytest
from span_builder import http, judge, policy

from otel_usageflow.policy.endpoint import parse_endpoint_text
from otel_usageflow.policy.http import path_segments
from otel_usageflow.policy.paths import fits


@pytest.mark.parametrize(
    ("endpoint", "method", "path", "takes"),
    [
        ("POST /chat", "POST", "/chat", True),
        ("POST /chat", "GET", "/chat", False),
        ("post /chat", "POST", "/chat", True),
        ("* /chat", "PURGE", "/chat", True),
        ("GET|POST /chat", "GET", "/chat", True),
        ("GET|POST /chat", "PUT", "/chat", False),
        ("GET /chat", None, "/chat", False),
        ("* /chat", None, "/chat", True),
        ("GET /Chat", "GET", "/chat", False),
        ("GET /chat", "GET", "/chat/", True),
        ("GET /chat/", "GET", "/chat", True),
        ("GET /chat", "GET", "/chat//", False),
        ("GET /", "GET", "/", True),
        ("GET /", "GET", "/x", False),
        ("GET /users/:id", "GET", "/users/7", True),
        ("GET /users/{id}", "GET", "/users/7/", True),
        ("GET /users/*", "GET", "/users/7", True),
        ("GET /users/:id", "GET", "/users", False),
        ("GET /users/:id", "GET", "/users//", False),
        ("GET /users/:id", "GET", "/users/7/posts", False),
        ("GET /users/**", "GET", "/users", True),
        ("GET /users/**", "GET", "/users/7/posts/9", True),
        ("GET /users/*rest", "GET", "/users/7", True),
        ("GET /users/*rest", "GET", "/users", True),
        ("GET /users/**", "GET", "/usersX", False),
        ("* /**", "GET", "/", True),
        ("* /**", "GET", "/a/b", True),
        ("GET /a b", "GET", "/a%20b", False),
        ("GET /a%20b", "GET", "/a%20b", True),
        ("GET /a%20b", "GET", "/a b", True),
        ("GET /files/:name", "GET", "/files/a%2Fb", True),
        ("GET /files/a/b", "GET", "/files/a%2Fb", False),
        ("GET /v1/models/gemini:generate", "GET", "/v1/models/gemini:generate", True),
    ],
)
def test_an_endpoint_takes_a_path(endpoint: str, method: str | None, path: str, takes: bool) -> None:
    """Paths are compared by segment and case, decoded after splitting; one trailing slash is ignored."""
    if " b" in endpoint:
        with pytest.raises(ValueError, match="is not an endpoint"):
            parse_endpoint_text(endpoint)
        return
    assert fits(parse_endpoint_text(endpoint), method, path_segments(path)) is takes
    attributes = http(path) | {"http.request.method": method}
    batch = judge(attributes, policy(endpoint=endpoint))
    assert batch.unmatched == (0 if takes else 1)


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("/users", "has no method; write for example `GET /users`"),
        ("", "write a method and a path"),
        ("GET", "write a method and a path"),
        ("GET users", "must begin with a slash, as in `GET /users`"),
        ("gprc shop.Orders/Get", "a gRPC method is written `grpc shop.Orders/Get`"),
        ("GET https://api.example.com/users", "write only the path"),
        ("GET /users?id=1", "write `GET /users`"),
        ("GET /**/users", "must be the last segment"),
        ("GET /*rest/users", "must be the last segment"),
        ("GET /users/{id}.json", "a parameter is a whole segment"),
        ("GET /users/a*", "a parameter is a whole segment"),
        ("GET /users/<int:id>", "a parameter is a whole segment"),
        ("GET /users/{p:path}", "for the rest of a path write `/\\*name`"),
        ("GET /users/:", "is no parameter"),
        ("GET /:id/:id", "occurs twice"),
        ("GET| /users", "is not a method"),
        ("G*T /users", "is not a method"),
    ],
)
def test_an_endpoint_that_is_none_is_explained(endpoint: str, says: str) -> None:
    """The message says what is wrong with an endpoint, and shows a right one."""
    with pytest.raises(ValueError, match=says):
        parse_endpoint_text(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "route", "takes"),
    [
        # one template, in every framework's spelling
        *(
            ("GET /users/:id", route, True)
            for route in (
                "/users/{id}",  # FastAPI, Spring, Go, axum
                "/users/:id",  # Express, Gin
                "/users/<int:id>",  # Flask
                "/users/<id>",
                "users/<str:id>/",  # Django
                "/users/{id:int}",  # ASP.NET, Starlette
                "/users/{id:[0-9]+}",  # gorilla, chi
                "/users/:id(\\d+)",  # Express
                "/users/:id(.:format)",  # Rails
                "/users/[id]",  # Next.js
                "GET /users/{id}",  # Go's ServeMux
                "/users/{id}/{$}",  # Go: exactly this path
                "/users/{id}.json",  # within a segment
                "/users/user-:id",
                "/users/me",
            )
        ),
        # a parameter of the route may have been anything, so it is no literal of a policy
        ("GET /users/me", "/users/{id}", False),
        ("GET /users/*", "/users/{id}", True),
        ("GET /users/**", "/users/{id}", True),
        ("* /**", "/users/{id}", True),
        # what stands for several segments, or for none, is only a rest
        *(
            (endpoint, route, takes)
            for route in (
                *("/files/{p:path}", "/files/<path:p>", "/files/*", "/files/*p", "/files/{p...}", "/files/{*p}"),
                *("/files/[...p]", "/files/[[...p]]", "/files/{p?}", "/files/:p?", "/files/:p*"),
            )
            for endpoint, takes in (("GET /files/**", True), ("GET /files/:p", False))
        ),
        # a mount point alone is only itself
        ("GET /sub", "/sub", True),
        ("GET /sub/items", "/sub", False),
        ("GET /sub/**", "/sub", True),
        # the text of a regular expression says nothing about segments
        ("GET /users/:id", "^users/(?P<id>[0-9]+)/$", False),
        ("GET /users/**", "^users/(?P<id>[0-9]+)/$", False),
        ("* /**", "^users/(?P<id>[0-9]+)/$", True),
        # with neither path nor route, only a policy for every path
        ("* /**", None, True),
        ("* /*rest", None, True),
        ("* /", None, False),
        ("* /*", None, False),
        ("POST /**", None, False),
    ],
)
def test_the_route_stands_in_for_a_missing_path(endpoint: str, route: str | None, takes: bool) -> None:
    """Without a path the route decides, in any framework's spelling; its unknown parts match no literal."""
    attributes = {"http.request.method": "GET", "http.response.status_code": 200, "http.route": route}
    batch = judge({key: value for key, value in attributes.items() if value}, policy(endpoint=endpoint))
    assert batch.unmatched == (0 if takes else 1)


def test_the_path_decides_over_the_route() -> None:
    """Where a span has both, the route says nothing: a mount point does not take its sub-paths."""
    batch = judge(http("/sub/items", http__route="/sub"), policy(endpoint="POST /sub"))
    assert batch.unmatched == 1
