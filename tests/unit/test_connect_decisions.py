"""Decisions around connecting accounts: configuration, keys, links, what was granted, and for whom a call is made."""

from typing import Any

import pytest
from cryptography.fernet import Fernet

from otel_usageflow.exporters.stripe_meter import connect_page
from otel_usageflow.exporters.stripe_meter.access import AppAccess, NotConnected, OAuthAccess
from otel_usageflow.exporters.stripe_meter.answers import outcome_of
from otel_usageflow.exporters.stripe_meter.connect_callback import unfit
from otel_usageflow.exporters.stripe_meter.connect_config import ConnectConfig, problems_of, remarks_on
from otel_usageflow.exporters.stripe_meter.connect_keys import KeyRing, Tokens, UnusableKey
from otel_usageflow.exporters.stripe_meter.oauth import Granted, link
from otel_usageflow.ledger.connections import Connection, ConnectionState
from otel_usageflow.model.outcome import Halted

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
SECTION: dict[str, Any] = {
    "client_id": "ca_1",
    "redirect_uri": "https://billing.example/connect/callback",
    "admin": "admin",
    "encryption_key": NEW,
}


def section(**changes: Any) -> ConnectConfig:
    """The section with changes; None takes a key out."""
    return ConnectConfig.model_validate({k: v for k, v in {**SECTION, **changes}.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encryption_key": None}, "openssl rand -base64 32"),
        ({"encryption_key_file": "/keys"}, "exactly one of encryption_key"),
        ({"client_id": "sk_test_1"}, "begins with ca_"),
        ({"redirect_uri": "http://billing.example/connect/callback"}, "must be https"),
        ({"redirect_uri": "billing.example"}, "no address to come back to"),
        ({"redirect_uri": "https://billing.example/?a=b"}, "no address to come back to"),
        ({"path": "connect"}, "must be a path"),
        ({"scope": "read_only"}, "read_write"),
        ({"kind": "oauth2"}, "app"),
    ],
)
def test_what_is_wrong_with_the_section(changes: dict[str, Any], message: str) -> None:
    """Each mistake is told with its remedy; without a key nothing would be stored."""
    with pytest.raises(ValueError, match=message):
        section(**changes)


def test_a_live_key_wants_https() -> None:
    """A callback on localhost without TLS is for test mode only."""
    local = section(redirect_uri="http://localhost:8080/connect/callback")
    assert problems_of(local, "test") == []
    assert [one.path for one in problems_of(local, "live")] == ["connect::redirect_uri"]


def test_oauth_wants_a_secret_key() -> None:
    """A restricted api_key is remarked on without client_secret, which must be a secret key of the same mode."""
    assert remarks_on(section(), "sk_test_1") == remarks_on(section(client_secret="sk_test_1"), "rk_test_1") == []
    (remark,) = remarks_on(section(), "rk_test_1")
    assert remark.path == "connect::client_secret"
    for secret, mode, wrong in (
        ("sk_test_1", "test", 0),
        ("sk_live_1", "live", 0),
        ("sk_live_1", "", 0),
        ("sk_live_1", "test", 1),
        ("rk_test_1", "test", 1),
    ):
        found = problems_of(section(client_secret=secret), mode)
        assert [one.path for one in found] == ["connect::client_secret"] * wrong


@pytest.mark.parametrize("key", ["secret", "a" * 44, NEW[:-2], f"{NEW} short", "ä" * 32])
def test_a_wrong_key_is_told_and_never_quoted(key: str) -> None:
    """What is no key is refused with the command that makes one, and is not repeated."""
    (problem,) = problems_of(section(encryption_key=key), "test")
    assert problem.path == "connect::encryption_key"
    assert "openssl rand -base64 32" in problem.message
    assert key not in problem.message


def test_keys_are_changed_by_putting_the_new_one_first() -> None:
    """The first key seals and signs, all open and verify; without the old one its secrets stay closed."""
    tokens = Tokens("sk_app", "rt_1")
    before = KeyRing.of_text(OLD)
    sealed, signature = before.seal(tokens, "acct_1"), before.sign(b"link")
    both = KeyRing.of_text(f"{NEW}\n{OLD}")
    assert both.open(sealed, "acct_1") == tokens
    assert both.signed(b"link", signature)
    assert not both.is_newest(sealed)
    assert both.is_newest(both.seal(tokens, "acct_1"))
    after = KeyRing.of_text(NEW)
    assert after.open(sealed, "acct_1") is None
    assert not after.signed(b"link", signature)
    with pytest.raises(UnusableKey):
        KeyRing.of_text(" \n")


def test_tokens_are_bound_to_their_account() -> None:
    """Rows that somebody has exchanged in the database open nothing."""
    ring = KeyRing.of_text(NEW)
    sealed = ring.seal(Tokens("sk_app", "rt_1"), "acct_1")
    assert ring.open(sealed, "acct_2") is None
    assert b"rt_1" not in sealed


def test_links_of_both_kinds() -> None:
    """Connect's link asks for writing; that of an app leads to Stripe's marketplace, or to the test double."""
    oauth = link(section(), "https://connect.stripe.com", "s", "a@b.example")
    assert oauth.startswith("https://connect.stripe.com/oauth/authorize?client_id=ca_1&")
    assert "scope=read_write" in oauth
    assert "stripe_user%5Bemail%5D=a%40b.example" in oauth
    app = section(kind="app")
    assert link(app, "https://connect.stripe.com/", "s").startswith(
        "https://marketplace.stripe.com/oauth/v2/authorize?"
    )
    assert link(app, "http://127.0.0.1:1", "s").startswith("http://127.0.0.1:1/oauth/v2/authorize?")


@pytest.mark.parametrize(
    ("livemode", "scope", "refresh", "mode", "kind", "why"),
    [
        (False, "read_write", "", "test", "oauth", ""),
        (True, "read_write", "", "live", "oauth", ""),
        (True, "read_write", "", "test", "oauth", "connected in live mode, and this service works in test mode"),
        (False, "read_write", "", "live", "oauth", "connected in test mode"),
        (False, "read_only", "", "test", "oauth", "read_write is needed"),
        (False, "", "", "test", "oauth", "the scope none"),
        (False, "stripe_apps", "rt_1", "test", "app", ""),
        (False, "stripe_apps", "", "test", "app", "no refresh token"),
        (False, "read_write", "rt_1", "test", "app", "stripe_apps is needed"),
    ],
)
def test_what_was_granted(livemode: bool, scope: str, refresh: str, mode: str, kind: str, why: str) -> None:
    """Only the key's own mode and a scope that may write are good."""
    said = unfit(Granted("acct_1", livemode, scope, Tokens("t", refresh), 3600, 0), mode, kind)
    assert why in said
    assert bool(said) == bool(why)


def connection(account: str, state: ConnectionState = ConnectionState.CONNECTED) -> Connection:
    """A connection of an account."""
    return Connection(account, "oauth", "read_write", state, 0, 0, "me")


@pytest.mark.parametrize("state", [one for one in ConnectionState if one is not ConnectionState.CONNECTED])
def test_nothing_is_sent_for_an_account_that_is_gone(state: ConnectionState) -> None:
    """Its usage halts with the remedy, without a call; other accounts, and those connected elsewhere, go on."""
    access = OAuthAccess()
    access.learn({"acct_1": connection("acct_1", state), "acct_2": connection("acct_2")}, {})
    for call in (access.v1, access.v2):
        with pytest.raises(NotConnected, match="account acct_1") as raised:
            call("acct_1")
        outcome = outcome_of(raised.value)
        assert isinstance(outcome, Halted)
        assert "connect url" in outcome.remedy
    assert access.v1("acct_2", idempotency_key="k") == {"idempotency_key": "k", "stripe_account": "acct_2"}
    assert access.v1("acct_3") == {"stripe_account": "acct_3"}
    assert access.v2("") == access.v1("") == {}


def test_an_app_acts_with_the_accounts_token() -> None:
    """There is no header then; without a token nothing is sent, and the key acts for its own account."""
    access = AppAccess()
    access.learn({"acct_1": connection("acct_1"), "acct_2": connection("acct_2")}, {"acct_1": "sk_app"})
    assert access.v1("acct_1", idempotency_key="k") == {"idempotency_key": "k", "api_key": "sk_app"}
    assert access.v2("acct_1") == {"api_key": "sk_app"}
    assert access.v1("") == access.v2("") == {}
    with pytest.raises(NotConnected, match="cannot be read"):
        access.v1("acct_2")
    with pytest.raises(NotConnected, match="has not installed the app"):
        access.v2("acct_3")


def test_pages_are_whole_and_plain() -> None:
    """Every page stands by itself: no script, no address, no resource."""
    for page in connect_page.all_pages():
        text = page.text or ""
        assert text.startswith("<!doctype html>")
        assert not [one for one in ("<script", "src=", "href=", "http:", "https:", "url(") if one in text]
        assert "style-src 'sha256-" in page.headers["Content-Security-Policy"]
