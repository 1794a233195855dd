"""What lies between us and Stripe is broken: the words say what and how to mend it, and nothing is lost."""

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from billing import Billing, billing, record, total
from network import Authority, ConnectProxy, Line, listening_with
from recording_components import until
from structlog.testing import capture_logs

from otel_usageflow.errors import StartError
from otel_usageflow.testing.stripe import StripeDouble

YESTERDAY = -datetime.timedelta(hours=1)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no authority but those of the test."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
async def stripe() -> AsyncIterator[StripeDouble]:
    """The double, with a meter."""
    async with StripeDouble() as double:
        double.add_meter("api_request")
        yield double


def port_of(stripe: StripeDouble) -> int:
    """Where the double listens."""
    return int(stripe.url.rpartition(":")[2])


def through(port: int, scheme: str = "https", host: str = "localhost") -> dict[str, str]:
    """Endpoints on a port."""
    url = f"{scheme}://{host}:{port}"
    return {"api": url, "meter_events": url, "connect": url}


@asynccontextmanager
async def told(directory: Path, stripe: StripeDouble, **config: Any) -> AsyncIterator[tuple[Billing, list[Any]]]:
    """An exporter, and what it says."""
    with capture_logs() as lines:
        async with billing(directory, stripe, **config) as running:
            yield running, lines


def why(lines: list[Any]) -> str:
    """What the start said about Stripe."""
    (line,) = [one for one in lines if one["event"] == "stripe_not_readable_at_start"]
    assert line["account"] == "own"
    return str(line["why"])


async def failed(directory: Path, stripe: StripeDouble, **config: Any) -> str:
    """What an exporter says of a way that does not work; usage is taken, kept, and not in doubt."""
    customer = stripe.add_customer({"account_id": "acme"})
    async with told(directory, stripe, **config) as (running, lines):
        await running.bill(record(quantity=2))
        said = why(lines)
    assert stripe.accepted == []
    async with billing(directory, stripe) as running:  # the way is there again, and nobody sends the usage once more
        await stripe.wait_until(lambda: total(stripe, customer) == 2)
    return said


@pytest.mark.parametrize(
    ("certificate", "trusted", "words"),
    [
        ({"own": True}, False, ("signed by itself", "SSL_CERT_FILE=")),
        ({}, False, ("an authority that is not known here", "SSL_CERT_FILE=")),
        ({"valid": YESTERDAY}, True, ("has expired", "clock")),
        ({"host": "other.example"}, True, ("is for another host", "HTTPS_PROXY")),
    ],
    ids=["self-signed", "unknown-authority", "expired", "wrong-host"],
)
async def test_certificates(
    tmp_path: Path,
    stripe: StripeDouble,
    monkeypatch: pytest.MonkeyPatch,
    certificate: dict[str, Any],
    trusted: bool,
    words: tuple[str, ...],
) -> None:
    """A certificate that cannot be trusted is named with what is wrong with it; nothing is sent."""
    authority = Authority(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with listening_with(Line(port_of(stripe)).serve, tls=authority.context(**certificate)) as port:
        said = await failed(tmp_path, stripe, endpoints=through(port))
    assert f"the certificate of localhost:{port}" in said
    assert all(word in said for word in words), said


async def test_an_authority_of_the_company(
    tmp_path: Path, stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE names authorities that are trusted beside Stripe's."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    customer = stripe.add_customer({"account_id": "acme"})
    async with (
        listening_with(Line(port_of(stripe)).serve, tls=authority.context()) as port,
        billing(tmp_path, stripe, endpoints=through(port)) as running,
    ):
        await running.bill(record(quantity=2))
        await stripe.wait_until(lambda: total(stripe, customer) == 2)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SSL_CERT_FILE", "{folder}/none.pem", "cannot be read: No such file"),
        ("SSL_CERT_FILE", "{folder}/empty.pem", "cannot be read"),
        ("SSL_CERT_DIR", "{folder}/none", "cannot be read: no such directory"),
        ("HTTPS_PROXY", "socks5://user:secret@proxy:1080", "a socks5:// proxy, which is not supported"),
        ("HTTPS_PROXY", "http://user:secret@proxy:port", "is not a URL"),
    ],
)
async def test_an_environment_that_cannot_work(
    tmp_path: Path,
    stripe: StripeDouble,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: str,
) -> None:
    """What can never work is an error of the start that names the variable, and no password."""
    (tmp_path / "empty.pem").write_text("")
    monkeypatch.setenv(variable, value.format(folder=tmp_path))
    with pytest.raises(StartError, match=words) as caught:
        async with billing(tmp_path, stripe, endpoints=through(1)):
            pass
    assert variable in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_no_tls_at_all(tmp_path: Path, stripe: StripeDouble) -> None:
    """Something that speaks no TLS where Stripe should be is told apart from a certificate."""
    said = await failed(tmp_path, stripe, endpoints=through(port_of(stripe)))
    assert "does not speak TLS" in said


async def test_names_that_nobody_knows(tmp_path: Path, stripe: StripeDouble) -> None:
    """A name server that does not know the host, or does not answer: both in words."""
    said = await failed(tmp_path, stripe, endpoints=through(443, host="stripe.invalid"), timeout="3s")
    assert "stripe.invalid" in said
    assert "name server" in said
    assert "resolv.conf" in said


async def test_only_ipv6(tmp_path: Path, stripe: StripeDouble) -> None:
    """Where there is only IPv6, it is used."""
    customer = stripe.add_customer({"account_id": "acme"})
    async with (
        listening_with(Line(port_of(stripe)).serve, host="::1") as port,
        billing(tmp_path, stripe, endpoints=through(port, "http", "[::1]")) as running,
    ):
        await running.bill(record(quantity=2))
        await stripe.wait_until(lambda: total(stripe, customer) == 2)


@pytest.mark.parametrize("with_password", [False, True])
async def test_through_a_proxy(
    tmp_path: Path, stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch, with_password: bool
) -> None:
    """HTTPS_PROXY is used, with user and password where it has them; the proxy sees only where it leads."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    customer = stripe.add_customer({"account_id": "acme"})
    proxy = ConnectProxy("us er", "p@ss:word") if with_password else ConnectProxy()
    async with (
        listening_with(Line(port_of(stripe)).serve, tls=authority.context("stripe.test")) as port,
        listening_with(proxy.serve) as proxy_port,
    ):
        who = "us%20er:p%40ss%3Aword@" if with_password else ""
        monkeypatch.setenv("HTTPS_PROXY", f"http://{who}127.0.0.1:{proxy_port}")
        async with billing(tmp_path, stripe, endpoints=through(port, host="stripe.test")) as running:
            await running.bill(record(quantity=2))
            await stripe.wait_until(lambda: total(stripe, customer) == 2)
    assert set(proxy.asked) == {f"stripe.test:{port}"}


async def test_past_the_proxy(tmp_path: Path, stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY leads past it."""
    customer = stripe.add_customer({"account_id": "acme"})
    proxy = ConnectProxy()
    async with listening_with(proxy.serve) as proxy_port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        async with billing(tmp_path, stripe) as running:
            await running.bill(record(quantity=2))
            await stripe.wait_until(lambda: total(stripe, customer) == 2)
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("proxy", "who", "words"),
    [
        (ConnectProxy("me", "secret"), "", ("asks who we are (407)", "HTTPS_PROXY=http://user:password@")),
        (ConnectProxy("me", "other"), "me:secret@", ("asks who we are (407)",)),
        (
            ConnectProxy(refusal=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
            "me:secret@",
            ("does not let us through (403 Forbidden)", "have api.stripe.com:443"),
        ),
        (
            ConnectProxy(refusal=b"HTTP/1.1 502 Bad\r\nContent-Type: text/html\r\n\r\n<html>no</html>"),
            "",
            ("does not let us through (502 Bad)",),
        ),
        (ConnectProxy(refusal=b"<html>please log in</html>\r\n\r\n"), "", ("does not speak HTTP",)),
        (ConnectProxy(silent=True), "", ("no connection in time",)),
    ],
    ids=["407", "407-wrong-password", "403", "502-html", "no-http", "silent"],
)
async def test_a_proxy_that_refuses(
    tmp_path: Path,
    stripe: StripeDouble,
    monkeypatch: pytest.MonkeyPatch,
    proxy: ConnectProxy,
    who: str,
    words: tuple[str, ...],
) -> None:
    """Its refusal is told with the remedy and without the password."""
    async with listening_with(proxy.serve) as proxy_port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{who}127.0.0.1:{proxy_port}")
        said = await failed(tmp_path, stripe, endpoints=through(443, host="stripe.test"))
    assert all(word in said for word in words), said
    assert "secret" not in said


async def test_no_proxy_there(tmp_path: Path, stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that cannot be reached is told apart from Stripe."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    said = await failed(tmp_path, stripe, endpoints=through(443, host="stripe.test"))
    assert "the proxy 127.0.0.1:1 cannot be reached: nothing listens there" in said


async def test_a_netrc_is_left_alone(tmp_path: Path, stripe: StripeDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ~/.netrc says about Stripe's host, the key of the configuration is sent."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    customer = stripe.add_customer({"account_id": "acme"})
    async with billing(tmp_path, stripe) as running:
        await running.bill(record(quantity=2))
        await stripe.wait_until(lambda: total(stripe, customer) == 2)


@pytest.mark.parametrize("tls", [False, True])
async def test_accepted_and_never_answered(tmp_path: Path, stripe: StripeDouble, tls: bool) -> None:
    """A connection that is taken and then silent is given up; before TLS stands, nothing can have been sent."""
    line = Line(port_of(stripe), dead=True)
    async with listening_with(line.serve) as port:
        said = await failed(tmp_path, stripe, endpoints=through(port, "https" if tls else "http"), timeout="400ms")
    assert ("no connection in time" if tls else "no answer within") in said


async def test_the_line_goes_dead_without_an_end(tmp_path: Path, stripe: StripeDouble) -> None:
    """Connections of which nobody hears the end are given up, and new ones are made: it goes on by itself."""
    customer = stripe.add_customer({"account_id": "acme"})
    line = Line(port_of(stripe))
    async with (
        listening_with(line.serve) as port,
        told(tmp_path, stripe, endpoints=through(port, "http"), timeout="500ms") as (running, lines),
    ):
        await running.bill(record(quantity=1))
        await stripe.wait_until(lambda: total(stripe, customer) == 1)
        line.dead = True
        before = line.connections
        await running.bill(record(quantity=2))
        await until(lambda: any(one["event"] == "stripe_not_reachable" for one in lines))
        line.dead = False
        await stripe.wait_until(lambda: total(stripe, customer) == 3)
        assert line.connections > before
    assert stripe.violations == []
