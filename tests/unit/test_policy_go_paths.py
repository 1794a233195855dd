"""Paths as Go's instrumentations write them: decoded, under the new name and under the old one."""

import pytest
from span_builder import judge, only, policy

OTELHTTP = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
OTELGIN = "go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin/otelgin"


def user_of(scope: str, **attributes: object) -> str | None:
    """Who is billed for `GET /orgs/:org`."""
    asked = {"http.request.method": "GET", "http.response.status_code": 200}
    names = {name.replace("__", "."): value for name, value in attributes.items()}
    return only(judge(asked | names, policy(endpoint="GET /orgs/:org", user={"path": "org"}), scope=scope)).user


@pytest.mark.parametrize("scope", [OTELHTTP, OTELGIN])
@pytest.mark.parametrize(
    "names",
    [
        {"url__path": "/orgs/a%41"},
        {"http__target": "/orgs/a%41"},  # until 0.60
        {"url__path": "/orgs/a%41", "http__target": "/orgs/a%41"},  # until 0.62, http/dup
    ],
)
def test_a_path_of_go_is_decoded_once(scope: str, names: dict[str, object]) -> None:
    """/orgs/a%2541 was sent, Go decoded it, and it is not decoded again: the user is a%41, and not aA."""
    assert user_of(scope, **names) == "a%41"


def test_a_raw_target_beside_the_path_of_go_is_decoded() -> None:
    """An http.target that the application has set to what was sent is whole, and wins over the decoded path."""
    assert user_of(OTELHTTP, url__path="/orgs/a/b", http__target="/orgs/a%2Fb?page=2") == "a/b"


def test_an_old_target_with_a_query_is_decoded_elsewhere() -> None:
    """Other languages put the target into http.target as it was sent."""
    assert user_of("@opentelemetry/instrumentation-http", http__target="/orgs/a%41?page=2") == "aA"
