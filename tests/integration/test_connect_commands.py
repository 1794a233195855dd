"""`connect url|list|remove` and the configuration: mistakes are told with their remedy, and secrets are not shown."""

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from connecting import KEY, command, connecting, written

from otel_usageflow.testing.stripe import StripeDouble


@pytest.fixture
async def stripe() -> AsyncIterator[StripeDouble]:
    """A Stripe."""
    async with StripeDouble() as double:
        yield double


async def test_validate_names_what_is_wrong(tmp_path: Path, stripe: StripeDouble) -> None:
    """Without a key, with a wrong one, with an extension that is none: each is an error at its place."""
    place = "exporters::stripe_meter::connect"
    for changes, message in (
        ({"encryption_key": None}, f"{place}: give exactly one of encryption_key"),
        ({"encryption_key": "short"}, f"{place}::encryption_key: it is no encryption key"),
        ({"admin": "sqlite_storage"}, f"{place}::admin: sqlite_storage is no admin"),
        ({"admin": "admin/public"}, f"{place}::admin: admin/public is not configured"),
        ({"client_idd": "ca_1"}, f"{place}::client_idd"),
    ):
        said = await command("validate", "--config", str(written(tmp_path, stripe, **changes)))
        assert (said.status, message in said.err) == (1, True), said.err
    assert (await command("validate", "--config", str(written(tmp_path, stripe)))).status == 0


async def test_print_config_hides_the_key(tmp_path: Path, stripe: StripeDouble) -> None:
    """The encryption key is shown as [REDACTED]."""
    said = await command("print-config", "--config", str(written(tmp_path, stripe)))
    assert said.status == 0
    assert KEY not in said.out
    assert yaml.safe_load(said.out)["exporters"]["stripe_meter"]["connect"]["encryption_key"] == "[REDACTED]"


async def test_a_key_from_a_file(tmp_path: Path, stripe: StripeDouble) -> None:
    """It is read at the start; one that is missing, or holds none, stops it with the command that makes one."""
    file = tmp_path / "keys"
    config = written(tmp_path, stripe, encryption_key=None, encryption_key_file=str(file))
    async with connecting(written(tmp_path, stripe)):
        pass  # the ledger is there
    written(tmp_path, stripe, encryption_key=None, encryption_key_file=str(file))
    for content in (None, "nothing", "\n"):
        if content is not None:
            file.write_text(content)
        said = await command("connect", "url", "--config", str(config))
        assert (said.status, said.out) == (2, "")
        assert "connect::encryption_key_file: " in said.err
        assert "openssl rand -base64 32" in said.err
    file.write_text(f"{KEY}\n")
    assert (await command("connect", "url", "--config", str(config))).status == 0


async def test_a_link_wants_a_ledger_and_a_section(tmp_path: Path, stripe: StripeDouble) -> None:
    """Before the first start there is nothing to write it down in; without `connect` there is nobody to connect."""
    config = written(tmp_path, stripe)
    said = await command("connect", "url", "--config", str(config))
    assert (said.status, "has not run" in said.err) == (2, True)
    tree = yaml.safe_load(config.read_text())
    del tree["exporters"]["stripe_meter"]["connect"]
    config.write_text(yaml.safe_dump(tree))
    said = await command("connect", "url", "--config", str(config))
    assert (said.status, "docs/connect.md" in said.err) == (1, True)


@pytest.mark.parametrize(
    "option", [("--expires", "5s"), ("--expires", "1000h"), ("--account", "cus_1"), ("--exporter", "stripe_meter/x")]
)
async def test_options_that_make_no_sense(tmp_path: Path, stripe: StripeDouble, option: tuple[str, str]) -> None:
    """They are errors of usage, by name."""
    said = await command("connect", "url", "--config", str(written(tmp_path, stripe)), *option)
    assert (said.status, option[0] in said.err) == (1, True)


async def test_what_url_says(tmp_path: Path, stripe: StripeDouble) -> None:
    """Only the link is on standard output; what it needs is on standard error."""
    async with connecting(written(tmp_path, stripe)) as service:
        said = await command("connect", "url", "--config", str(service.config), "--expires", "2h")
        assert said.out.startswith(f"{stripe.url}/oauth/authorize?")
        assert said.out.count("\n") == 1
        assert "The service must run" in said.err
        assert "in test mode" in said.err


async def test_what_list_says(tmp_path: Path, stripe: StripeDouble) -> None:
    """Account, mode, kind, scope, since when and by whom, also without the secrets of the configuration."""
    async with connecting(written(tmp_path, stripe)) as service:
        arguments = ("connect", "list", "--config", str(service.config))
        assert "no account was connected" in (await command(*arguments)).out
        page = await service.visit(stripe.approve(await service.url("--account", "acct_7"), "acct_1"))
        assert "made for the account acct_7" in page.text
        (one,) = json.loads((await command(*arguments, "--format", "json")).out)["connections"]
        expected = {"account": "acct_1", "exporter": "stripe_meter", "mode": "test", "kind": "oauth"}
        expected |= {"scope": "read_write", "state": "connected", "unsent_events": 0, "revoked_at_stripe": False}
        assert expected.items() <= one.items()
        assert "acct_1" in (await command(*arguments, "--exporter", "stripe_meter")).out
        assert (await command(*arguments, "--exporter", "other")).status == 1
        tree = yaml.safe_load(service.config.read_text())
        tree["exporters"]["stripe_meter"]["api_key"] = "${env:NOT_SET_ANYWHERE}"
        tree["exporters"]["stripe_meter"]["connect"]["encryption_key"] = "${env:NOT_SET_ANYWHERE}"
        service.config.write_text(yaml.safe_dump(tree))
        assert "acct_1" in (await command(*arguments)).out


async def test_links_are_void_in_a_restored_backup(tmp_path: Path, stripe: StripeDouble) -> None:
    """A link that was open at the backup may have been used since: it connects nothing in the copy."""
    config = written(tmp_path, stripe)
    async with connecting(config) as service:
        back = stripe.approve(await service.url(), "acct_1")
        said = await command("ledger", "backup", "--config", str(config), str(tmp_path / "copy.db"))
        assert said.status == 0, said.err
    shutil.rmtree(tmp_path / "ledger")
    (tmp_path / "ledger").mkdir()
    shutil.copy(tmp_path / "copy.db", tmp_path / "ledger" / "ledger.db")
    async with connecting(config) as service:
        page = await service.visit(back)
        assert (page.status, "before this copy of the ledger" in page.text) == (400, True)
        assert service.connections() == {}
    assert not [call for call in stripe.calls if call.path == "/oauth/token"]


async def test_a_damaged_row_is_found(tmp_path: Path, stripe: StripeDouble) -> None:
    """A state that there is not is told by verify, and is no connection."""
    config = written(tmp_path, stripe)
    async with connecting(config) as service:
        await service.visit(stripe.approve(await service.url(), "acct_1"))
    with closing(sqlite3.connect(tmp_path / "ledger" / "ledger.db")) as connection:
        connection.execute("UPDATE connections SET state = 'connfcted'")
        connection.commit()
    said = await command("ledger", "verify", "--config", str(config), "--format", "json")
    assert (said.status, "connected account acct_1" in said.out) == (3, True)
    said = await command("connect", "list", "--config", str(config))
    assert (said.status, "ledger verify" in said.err) == (2, True)


async def test_an_account_that_is_connected_anew_is_told_as_connected(tmp_path: Path, stripe: StripeDouble) -> None:
    """The audit log never says that a connection was removed when it was renewed."""
    async with connecting(written(tmp_path, stripe)) as service:
        for _ in range(2):
            await service.visit(stripe.approve(await service.url(), "acct_1"))
        said = await command("ledger", "audit", "--config", str(service.config), "--format", "json")
        entries = [one for one in json.loads(said.out)["audit"] if one["action"] == "account connected"]
        assert [one["after"]["state"] for one in entries] == ["connected", "connected"]
        shown = await command("ledger", "audit", "--config", str(service.config))
        assert "removed" not in shown.out
