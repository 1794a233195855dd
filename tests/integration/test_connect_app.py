"""Accounts that have installed the Stripe App: tokens sealed, renewed in time, and lost only visibly."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from billing import record
from connecting import IN_ACCOUNT, KEY, Connecting, command, connecting, files, written
from cryptography.fernet import Fernet
from recording_components import until
from structlog.testing import capture_logs

from otel_usageflow.ledger.connections import ConnectionState
from otel_usageflow.testing.stripe import Fault, StripeDouble

TOKEN = "/v1/oauth/token"


@pytest.fixture
async def stripe() -> AsyncIterator[StripeDouble]:
    """A Stripe whose platform may act for accounts that are connected only."""
    async with StripeDouble() as double:
        double.settings.account_access = "connected"
        double.add_meter("api_request", account="acct_1")
        double.add_customer({"account_id": "acme"}, account="acct_1")
        yield double


class Ahead:
    """A clock that is some seconds ahead of the real one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self) -> float:
        """Unix seconds."""
        return time.time() + self._seconds


async def installed(service: Connecting, stripe: StripeDouble, account: str = "acct_1") -> None:
    """Let the owner of an account install the app."""
    page = await service.visit(stripe.approve(await service.url(), account))
    assert page.status == 200, page.text


def exchanges(stripe: StripeDouble) -> int:
    """Codes and refresh tokens that were exchanged."""
    return sum(call.path == TOKEN for call in stripe.calls)


async def until_renewed(service: Connecting, sealed: bytes) -> None:
    """Wait until other tokens stand in the ledger."""
    await until(lambda: service.connections()["acct_1"].sealed not in (sealed, b""), 20)


async def test_an_app_bills_with_the_accounts_token(tmp_path: Path, stripe: StripeDouble) -> None:
    """The account's token is the key of its calls, without a header; in the ledger it is encrypted."""
    config = written(tmp_path, stripe, kind="app")
    with capture_logs() as logs:
        async with connecting(config) as service:
            await installed(service, stripe)
            await service.bill(record(terms=IN_ACCOUNT))
            await stripe.wait_until(lambda: len(stripe.accepted) == 1, timeout=20)
            secrets = [*stripe.oauth._by_access, *stripe.oauth._by_refresh]
            contents = dict(files(config))
            assert {"ledger.db", "ledger.db-wal"} <= set(contents)
            for secret in secrets:
                assert not [name for name, content in contents.items() if secret.encode() in content]
    assert len(secrets) == 2
    assert not [secret for secret in secrets if secret in str(logs)]
    sent = [call for call in stripe.calls if call.path == "/v1/billing/meter_events"]
    assert sent
    assert not [call for call in sent if any(name.lower() == "stripe-account" for name in call.headers)]


async def test_without_an_installation_nothing_is_sent(tmp_path: Path, stripe: StripeDouble) -> None:
    """The developer's key never acts for an account that has not installed the app; its usage waits for that."""
    async with connecting(written(tmp_path, stripe, kind="app")) as service:
        await service.bill(record(terms=IN_ACCOUNT))
        assert not list(stripe.calls)
        await installed(service, stripe)
        await stripe.wait_until(lambda: len(stripe.accepted) == 1, timeout=20)


async def test_tokens_are_renewed_before_they_end(tmp_path: Path, stripe: StripeDouble) -> None:
    """After 80 % of its life a token is renewed, once, and the refresh token is the new one from then on."""
    config = written(tmp_path, stripe, kind="app")
    async with connecting(config) as service:
        await installed(service, stripe)
        first = service.connections()["acct_1"].sealed
    for ahead in (0.81 * 3600, 2 * 0.81 * 3600):
        async with connecting(config, clock=Ahead(ahead)) as service:  # type: ignore[arg-type]
            await until_renewed(service, first)
            one = service.connections()["acct_1"]
            assert (one.usable, one.renewing) == (True, False)
            first = one.sealed
            await service.bill(record(terms=IN_ACCOUNT, at=time.time()))
            await stripe.wait_until(lambda: len(stripe.accepted) >= 1, timeout=20)
    assert exchanges(stripe) == 3


async def test_a_renewal_without_an_answer_is_tried_again(tmp_path: Path, stripe: StripeDouble) -> None:
    """Stripe was not reached: the refresh token is still good, and the account is not lost."""
    config = written(tmp_path, stripe, kind="app")
    async with connecting(config) as service:
        await installed(service, stripe)
        sealed = service.connections()["acct_1"].sealed
    stripe.fault(TOKEN, Fault.RESET_BEFORE, times=2)
    async with connecting(config, clock=Ahead(3000)) as service:  # type: ignore[arg-type]
        await until_renewed(service, sealed)
        assert service.connections()["acct_1"].usable


async def test_a_renewal_is_not_broken_off(tmp_path: Path, stripe: StripeDouble) -> None:
    """The service stops while Stripe answers: the new pair is awaited and written down first."""
    config = written(tmp_path, stripe, kind="app")
    async with connecting(config) as service:
        await installed(service, stripe)
        sealed = service.connections()["acct_1"].sealed
    rule = stripe.fault(TOKEN, Fault.SLOW_AFTER, seconds=1.5)
    async with connecting(config, clock=Ahead(3000)) as service:  # type: ignore[arg-type]
        await until(lambda: rule.fired, 20)
    one = service.connections()["acct_1"]
    assert (one.usable, one.renewing, one.sealed == sealed) == (True, False, False)


async def test_a_pair_that_was_lost_on_the_way(tmp_path: Path, stripe: StripeDouble) -> None:
    """Stripe rolled the refresh token and we never heard: the account is lost, visibly, and its usage is kept."""
    config = written(tmp_path, stripe, kind="app")
    async with connecting(config) as service:
        await installed(service, stripe)
    stripe.fault(TOKEN, Fault.RESET_AFTER)
    with capture_logs() as logs:
        async with connecting(config, clock=Ahead(3000)) as service:  # type: ignore[arg-type]
            await until(lambda: not service.connections()["acct_1"].usable, 20)
            await service.bill(record(terms=IN_ACCOUNT, at=time.time()))
    (lost,) = [one for one in logs if one["event"] == "connected_account_lost"]
    assert "interrupted" in lost["why"]
    assert "connect url" in lost["remedy"]
    async with connecting(config) as service:
        one = service.connections()["acct_1"]
        assert (one.state, one.sealed) == (ConnectionState.LOST, b"")
        assert stripe.accepted == []
        await installed(service, stripe)
        await stripe.wait_until(lambda: len(stripe.accepted) == 1, timeout=20)


async def test_an_app_that_was_uninstalled(tmp_path: Path, stripe: StripeDouble) -> None:
    """A token that Stripe takes no more is renewed out of turn, and that tells that the app is gone."""
    async with connecting(written(tmp_path, stripe, kind="app")) as service:
        await installed(service, stripe)
        await service.bill(record(terms=IN_ACCOUNT))
        await stripe.wait_until(lambda: len(stripe.accepted) == 1, timeout=20)
        for token in stripe.oauth._by_access.values():
            token.revoked = True
        await service.bill(record(terms=IN_ACCOUNT))
        await until(lambda: not service.connections()["acct_1"].usable, 20)
        assert service.connections()["acct_1"].state is ConnectionState.LOST


async def test_commands_act_with_the_accounts_token(tmp_path: Path, stripe: StripeDouble) -> None:
    """`meters check` reads with the token that the service has written down, and halts where there is none."""
    config = written(tmp_path, stripe, kind="app")
    arguments = ("meters", "check", "--config", str(config))
    before = await command(*arguments)
    assert (before.status, "has not installed the app" in before.err) == (2, True)
    async with connecting(config) as service:
        await installed(service, stripe)
        said = await command(*arguments)
        assert said.status == 0, said
        await command("connect", "remove", "--config", str(config), "acct_1", "--yes")
        after = await command(*arguments)
        assert (after.status, "was removed with `connect remove`" in after.err) == (2, True)
        assert "connect url" in after.err


async def test_a_changed_key(tmp_path: Path, stripe: StripeDouble) -> None:
    """With the new key in front tokens are written anew; a key that opens nothing halts the account, visibly."""
    config = written(tmp_path, stripe, kind="app")
    async with connecting(config) as service:
        await installed(service, stripe)
        sealed = service.connections()["acct_1"].sealed
    new = Fernet.generate_key().decode()
    _set_key(config, f"{new} {KEY}")
    async with connecting(config) as service:
        await until_renewed(service, sealed)
    _set_key(config, KEY)
    with capture_logs() as logs:
        async with connecting(config) as service:
            part = service.exporter.connecting
            assert part is not None
            halted = part.obstacle("acct_1")
            assert halted is not None
            assert "cannot be read" in halted.why
    assert "connect_tokens_unreadable" in [one["event"] for one in logs]
    _set_key(config, new)
    async with connecting(config) as service:
        part = service.exporter.connecting
        assert part is not None
        assert part.obstacle("acct_1") is None
    assert exchanges(stripe) == 1


async def test_removing_an_app(tmp_path: Path, stripe: StripeDouble) -> None:
    """Its tokens are deleted, and it is said that only the owner can uninstall it."""
    async with connecting(written(tmp_path, stripe, kind="app")) as service:
        await installed(service, stripe)
        said = await command("connect", "remove", "--config", str(service.config), "acct_1", "--yes")
        assert (said.status, "in the Dashboard" in said.err) == (0, True)
        one = service.connections()["acct_1"]
        assert (one.state, one.sealed) == (ConnectionState.REMOVED, b"")


def _set_key(config: Path, key: str) -> None:
    tree = yaml.safe_load(config.read_text())
    tree["exporters"]["stripe_meter"]["connect"]["encryption_key"] = key
    config.write_text(yaml.safe_dump(tree))
