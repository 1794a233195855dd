"""The extension `ingesttokenauth`: who gets in, under which account, and tokens that come and go while it runs."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from companies import ACME, BETA, BOOK
from otlp_harness import FakeHealth
from structlog.testing import capture_logs

from otel_usageflow.component import Context
from otel_usageflow.errors import StartError, Unauthenticated
from otel_usageflow.extensions.ingesttokenauth import FACTORY, IngestTokenAuth
from otel_usageflow.extensions.sqlite_storage import SqliteStorage, SqliteStorageConfig
from otel_usageflow.extensions.sqlite_storage.connect.token_desk import TokenDesk
from otel_usageflow.ledger.ingest_tokens import PREFIX, IngestToken, digest, new_id, new_secret
from otel_usageflow.model.caller import Caller
from otel_usageflow.model.clock import SteadyClock

NOW = 1_800_000_000.0


@dataclass
class Entrance:
    """The extension on a ledger, and the desk at which tokens are made."""

    extension: IngestTokenAuth
    storage: SqliteStorage
    desk: TokenDesk
    wall: list[float]

    def make(self, account: str = ACME, *, expires: float | None = None, book: str = BOOK) -> tuple[str, str]:
        """Make a token as the command does: (its id, the token)."""
        secret = new_secret()
        token = IngestToken(new_id(), "", book, account, NOW, expires)
        self.desk.create(token, digest(secret.encode()), "tests")
        return token.id, secret

    def shows(self, secret: str) -> Caller:
        """Who calls with this token."""
        caller = self.extension.authenticate({"authorization": f"Bearer {secret}"})
        assert caller is not None
        return caller

    async def until(self, secret: str, gets_in: bool) -> None:
        """Wait until a token gets in, or does no more."""
        async with asyncio.timeout(5):
            while True:
                try:
                    self.shows(secret)
                    if gets_in:
                        return
                except Unauthenticated:
                    if not gets_in:
                        return
                await asyncio.sleep(0.01)

    async def refused(self) -> dict[str, float]:
        """Cause -> calls that were not let in; only those that there were."""
        measured = await self.extension.measure()
        return {
            one.labels["cause"]: one.value
            for one in measured
            if one.name == "otel_usageflow_ingest_refused_total" and one.value
        }


@asynccontextmanager
async def entrance(directory: Path, **config: Any) -> AsyncIterator[Entrance]:
    """The extension, entered; it looks for changes often."""
    wall = [NOW]
    clock = SteadyClock(wall=lambda: int(wall[0] * 1_000_000_000))
    context = Context("sqlite_storage", FakeHealth(), {}, clock=clock)
    async with SqliteStorage(SqliteStorageConfig(directory=directory), context) as storage:
        settings = FACTORY.config.model_validate({"storage": "sqlite_storage", **config})
        assert isinstance(settings, FACTORY.config)
        about = Context("ingesttokenauth", FakeHealth(), {"sqlite_storage": storage}, clock=clock)
        async with IngestTokenAuth(settings, about, poll=0.02) as extension:  # type: ignore[arg-type]
            yield Entrance(extension, storage, TokenDesk(directory), wall)


def contents(directory: Path) -> bytes:
    """All files."""
    return b"".join(file.read_bytes() for file in directory.iterdir())


async def test_a_token_says_who_calls(tmp_path: Path) -> None:
    """A token that is made while the service runs gets in soon, as the account and the book that it was made for."""
    async with entrance(tmp_path) as door:
        (first, acme), (second, beta) = door.make(), door.make(BETA)
        await door.until(beta, gets_in=True)
        assert door.shows(acme) == Caller(ACME, BOOK, first)
        assert door.shows(beta) == Caller(BETA, BOOK, second)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (None, "missing"),
        ("", "missing"),
        ("Bearer", "missing"),
        ("Basic {token}", "missing"),
        ("{token}", "missing"),
        ("Bearer {token}x", "unknown"),
        ("Bearer x", "unknown"),
        ("Bearer {token}, Bearer {token}", "unknown"),
        ("Bearer \udcff", "unknown"),
    ],
)
async def test_whoever_has_none_stays_out(tmp_path: Path, value: str | None, cause: str) -> None:
    """Without a token, with another scheme, with an unknown or half a token: refused, and counted by its cause."""
    async with entrance(tmp_path) as door:
        _, token = door.make()
        await door.until(token, gets_in=True)
        before = await door.refused()
        headers = {} if value is None else {"authorization": value.format(token=token)}
        with pytest.raises(Unauthenticated) as refusal:
            door.extension.authenticate(headers)
        assert token not in str(refusal.value)
        after = await door.refused()
        assert after.get(cause, 0) - before.get(cause, 0) == 1


async def test_a_token_that_is_revoked_lets_nobody_in(tmp_path: Path) -> None:
    """Soon after the command, and after a restart; the others go on, and the message names its id."""
    async with entrance(tmp_path) as door:
        (id_, token), (_, other) = door.make(), door.make(BETA)
        await door.until(token, gets_in=True)
        door.desk.revoke(id_, "tests", "lost", NOW)
        await door.until(token, gets_in=False)
        with pytest.raises(Unauthenticated, match=f"{id_} is revoked"):
            door.shows(token)
        assert door.shows(other).account == BETA
    async with entrance(tmp_path) as door:
        with pytest.raises(Unauthenticated, match="revoked"):
            door.shows(token)
        assert door.shows(other).account == BETA


async def test_a_token_expires(tmp_path: Path) -> None:
    """At its moment, by the service's clock."""
    async with entrance(tmp_path) as door:
        _, token = door.make(expires=NOW + 60)
        await door.until(token, gets_in=True)
        door.wall[0] = NOW + 61
        with pytest.raises(Unauthenticated, match="expired"):
            door.shows(token)
        assert (await door.refused())["expired"] == 1


async def test_header_and_scheme_are_configurable(tmp_path: Path) -> None:
    """`header` names another header; an empty `scheme` means the bare token."""
    async with entrance(tmp_path, header="X-Ingest-Token", scheme="") as door:
        _, token = door.make()
        async with asyncio.timeout(5):
            while True:
                try:
                    caller = door.extension.authenticate({"x-ingest-token": token})
                    break
                except Unauthenticated:
                    await asyncio.sleep(0.01)
        assert caller.account == ACME
        with pytest.raises(Unauthenticated):
            door.shows(token)


async def test_no_token_is_written_down(tmp_path: Path) -> None:
    """Neither in the ledger's files nor in the log nor in a metric stands anything of which a token could be made."""
    with capture_logs() as logs:
        async with entrance(tmp_path) as door:
            _, token = door.make()
            await door.until(token, gets_in=True)
            with pytest.raises(Unauthenticated):
                door.shows(token + "x")
            measured = await door.extension.measure()
            files = contents(tmp_path)
    secret = token.removeprefix(PREFIX)
    assert len(secret) == 43  # 32 bytes
    assert secret.encode() not in files
    assert secret not in repr(logs)
    assert secret not in repr(measured)


async def test_when_it_was_used_is_kept_to_the_hour(tmp_path: Path) -> None:
    """Written down when the service stops at the latest."""
    async with entrance(tmp_path) as door:
        id_, token = door.make()
        await door.until(token, gets_in=True)
        assert door.desk.listed()[0].used_at is None
    (kept,) = TokenDesk(tmp_path).listed()
    assert (kept.id, kept.used_at) == (id_, NOW // 3600 * 3600)


async def test_followers_hear_of_accounts(tmp_path: Path) -> None:
    """Of those of their own book, each once, now and later; of none that is expired or revoked."""
    heard: list[str] = []
    async with entrance(tmp_path) as door:
        _, acme = door.make()
        door.make("acct_gone", expires=NOW - 1)
        await door.until(acme, gets_in=True)
        stop = door.extension.follow_accounts(BOOK, heard.append)
        assert heard == [ACME]
        door.make(BETA, book="stripe_meter live")
        door.make(ACME)
        _, beta = door.make(BETA)
        await door.until(beta, gets_in=True)
        assert heard == [ACME, BETA]
        stop()
        _, third = door.make("acct_third")
        await door.until(third, gets_in=True)
        assert heard == [ACME, BETA]


async def test_a_damaged_row_lets_nobody_in(tmp_path: Path) -> None:
    """If the account in the ledger is not the one that was written, the token is not believed."""
    async with entrance(tmp_path) as door:
        _, token = door.make()
        await door.until(token, gets_in=True)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE ingest_tokens SET account = 'acct_other'")
    connection.close()
    async with entrance(tmp_path) as door:
        with pytest.raises(Unauthenticated):
            door.shows(token)


async def test_a_storage_without_tokens_is_refused(tmp_path: Path) -> None:
    """The message names the key and what belongs there."""
    settings = FACTORY.config.model_validate({"storage": "health_check"})
    with pytest.raises(StartError, match="extensions::ingesttokenauth::storage"):
        FACTORY.build(settings, Context("ingesttokenauth", FakeHealth(), {"health_check": object()}))
