"""A path is decoded once, by us or by the instrumentation, and never twice."""

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_usageflow.model.attributes import Found
from otel_usageflow.policy.http import segments

CONTRIB = "opentelemetry.instrumentation."
GO = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"


def found(**attributes: str) -> Found:
    """Attributes as they are read from a span; `_` stands for a dot."""
    pairs = ((name.replace("_", "."), AnyValue(string_value=value)) for name, value in attributes.items())
    return {key: KeyValue(key=key, value=value).SerializeToString() for key, value in pairs}


@pytest.mark.parametrize("scope", [*(CONTRIB + name for name in ("flask", "django", "wsgi", "aiohttp_server")), GO])
def test_a_path_that_the_instrumentation_has_decoded_is_not_decoded_again(scope: str) -> None:
    """`a%2541` on the wire is `a%41` in `url.path` of these scopes, and so is the user: not `aA`."""
    assert segments(found(url_path="/orgs/a%41/items"), scope) == ["orgs", "a%41", "items"]


@pytest.mark.parametrize("scope", ["@opentelemetry/instrumentation-http", "io.opentelemetry.tomcat-10.0", ""])
def test_a_path_as_it_was_sent_is_decoded(scope: str) -> None:
    """Everybody else's `url.path` is percent-encoded, as the conventions want it."""
    assert segments(found(url_path="/orgs/a%2541/items"), scope) == ["orgs", "a%41", "items"]


@pytest.mark.parametrize("scope", [CONTRIB + "flask", CONTRIB + "aiohttp_server"])
def test_the_old_name_is_as_it_was_sent(scope: str) -> None:
    """`http.target` of these scopes is percent-encoded, and decoded here, alone and beside a decoded `url.path`."""
    target = "/orgs/a%2541/items?page=1"
    assert segments(found(http_target=target), scope) == ["orgs", "a%41", "items"]
    assert segments(found(http_target=target, url_path="/orgs/a%41/items"), scope) == ["orgs", "a%41", "items"]


def test_path_info_is_read_as_utf_8() -> None:
    """WSGI's PATH_INFO has a character for each byte (PEP 3333); what is no UTF-8 so, stays as it is."""
    assert segments(found(url_path="/orgs/caf\u00c3\u00a9"), CONTRIB + "flask") == ["orgs", "café"]
    assert segments(found(url_path="/orgs/café"), CONTRIB + "flask") == ["orgs", "café"]
    assert segments(found(url_path="/orgs/caf\u00c3\u00a9"), CONTRIB + "fastapi") == ["orgs", "caf\u00c3\u00a9"]
    assert segments(found(url_path="/orgs/日本"), CONTRIB + "flask") == ["orgs", "日本"]


def test_no_path_has_no_segments() -> None:
    """A route alone is no path."""
    assert segments(found(http_route="/orgs/{org}"), CONTRIB + "flask") is None
