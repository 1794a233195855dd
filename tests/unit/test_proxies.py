"""Which proxy the environment names, read as curl reads it, and never with its password in sight."""

import base64

import pytest

from otel_usageflow.errors import StartError
from otel_usageflow.exporters.stripe_meter.proxies import proxy_for

STRIPE = "https://api.stripe.com"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy but those of the test."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_without_a_proxy() -> None:
    """Nothing is named, nothing is used."""
    assert proxy_for(STRIPE) is None


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://proxy:3128/", "http://proxy:3128"),
        ("proxy:3128", "http://proxy:3128"),
        ("https://proxy:8443", "https://proxy:8443"),
        ("http://[::1]:3128", "http://[::1]:3128"),
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_forms(monkeypatch: pytest.MonkeyPatch, written: str, url: str, name: str) -> None:
    """With and without scheme, upper and lower case."""
    monkeypatch.setenv(name, written)
    proxy = proxy_for(STRIPE)
    assert proxy is not None
    assert (str(proxy.url), proxy.headers) == (url, {})


def test_a_password_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is decoded from the URL's form, goes into its header, and stands in no text."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me%40home:se%3Acret@proxy:3128")
    proxy = proxy_for(STRIPE)
    assert proxy is not None
    assert proxy.headers == {"Proxy-Authorization": "Basic " + base64.b64encode(b"me@home:se:cret").decode()}
    assert "cret" not in f"{proxy!r} {proxy.url}"


@pytest.mark.parametrize(
    ("no_proxy", "past"), [("api.stripe.com", True), (".stripe.com", True), ("*", True), ("example.com", False)]
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, no_proxy: str, past: bool) -> None:
    """Hosts, domains, and all of them."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(STRIPE) is None) == past


def test_each_scheme_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is for doubles, not for Stripe."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    assert proxy_for(STRIPE) is None
    assert proxy_for("http://stripe.test") is not None


@pytest.mark.parametrize("written", ["socks5://me:secret@proxy", "http://me:secret@", "http://me:secret@proxy:port"])
def test_what_cannot_be_used(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """It is an error that names the variable and its form, without what was written."""
    monkeypatch.setenv("HTTPS_PROXY", written)
    with pytest.raises(StartError, match="HTTPS_PROXY=http://host:port") as caught:
        proxy_for(STRIPE)
    assert "secret" not in str(caught.value)
