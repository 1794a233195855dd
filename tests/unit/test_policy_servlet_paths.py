"""Paths that a servlet container reads otherwise than they were sent. Tomcat 10.1 answers each as the plain one."""

import pytest
from span_builder import http, judge, only, policy

from otel_usageflow.policy.servlet_path import canonical, in_container

TOMCAT = "io.opentelemetry.tomcat-10.0"


@pytest.mark.parametrize(
    "path",
    [
        "/chat;v=1",
        "/chat;",
        "/;v=1/chat",
        "//chat",
        "/./chat",
        "/chat/.",
        "/x/../chat",
        "/x/%2e%2E/chat",
        "/../chat",
    ],
)
def test_no_spelling_of_a_path_that_a_servlet_answers_is_free(path: str) -> None:
    """The same servlet answers, so the same policy bills; where a server reads paths as they stand, it is another."""
    attributes = http(path, http__request__header__x_account_id="acme")
    assert only(judge(attributes, policy(), scope=TOMCAT)).user == "acme"
    assert judge(attributes, policy(), scope="@opentelemetry/instrumentation-http").unmatched == 1


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("/orgs/acme;v=1", "acme"),
        ("/orgs/a%3Bb", "a;b"),
        ("/orgs/a%2Fb;v=1", "a/b"),
        ("/orgs/caf%C3%A9;v=1", "café"),
        ("/orgs/a%2541", "a%41"),
        ("/orgs/.a", ".a"),
        ("/orgs/...", "..."),
    ],
)
def test_a_parameter_of_a_path_is_what_the_servlet_sees(path: str, user: str) -> None:
    """A parameter of a segment is not part of the user, an encoded semicolon is; all is decoded once."""
    batch = judge(http(path), policy(endpoint="POST /orgs/:org", user={"path": "org"}), scope=TOMCAT)
    assert only(batch).user == user


def test_an_ordinary_path_is_left_alone() -> None:
    """Most paths have nothing that a container would change, and cost one search."""
    assert canonical("/orgs/a%20b.c/items/") is None


def test_only_servlet_containers_read_paths_so() -> None:
    """Not Netty, not the JDK's own server, and no other language."""
    inside = ("tomcat-7.0", "jetty-12.0", "servlet-5.0", "undertow-1.4", "liberty-20.0", "spring-webmvc-6.0")
    assert all(in_container(f"io.opentelemetry.{name}") for name in inside)
    assert not any(
        in_container(name) for name in ("io.opentelemetry.netty-4.1", "io.opentelemetry.java-http-server", "")
    )
