"""What the storage writes into the audit log by itself: the settings that bill, and seals, in the background."""

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import structlog

from otel_usageflow.errors import StorageError, Unavailable
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.proof import audit, seal
from otel_usageflow.extensions.sqlite_storage.writer import Writer
from otel_usageflow.ledger.audit import CONFIGURED, SERVICE, Change

_log = structlog.get_logger(__name__)
_PAUSE = 60.0
"""Seconds between two looks for what is to be sealed."""
_RETRY = 1.0
_REST = 4
"""Times the length of a step that is rested after it, where much is to be sealed: a fifth of a core at most."""


class AuditKeeper:
    """Keeps the audit log complete while the storage is open.

    Args:
        writer: writes.
        directory: where the ledger is, for reading.
        now: unix seconds.
    """

    def __init__(self, writer: Writer, directory: Path, now: Callable[[], float]) -> None:
        self._writer = writer
        self._directory = directory
        self._now = now
        self._unwritten: Mapping[str, object] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End that."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def note_configuration(self, settings: Mapping[str, object]) -> None:
        """Write the settings down, unless they are the same as last time. While the disk refuses that waits."""
        self._unwritten = settings
        try:
            await self._note()
        except Unavailable as error:
            _log.warning("configuration_not_recorded_yet", error=str(error))

    async def record_configuration(self, settings: Mapping[str, object], why: str) -> None:
        """Write the settings down now, unless they are the same as last time.

        Raises:
            Unavailable: the disk refuses.
        """
        await self._note()  # what was in force before, if that still waits
        await self._writer.run(lambda c: configured(c, settings, self._now(), why), weight=0)

    async def seal_what_is_due(self) -> int:
        """Seal what is due; return the number of seals."""
        sealing = await asyncio.to_thread(self._due)
        if sealing is None:
            return 0
        await self._writer.run(lambda c: seal.write(c, sealing, self._now()), weight=0)
        return len(sealing.seals)

    def _due(self) -> seal.Sealing | None:
        with closing(open_for_reading(self._directory)) as connection:
            connection.execute("BEGIN")
            return seal.due(connection, self._now())

    async def _note(self) -> None:
        settings = self._unwritten
        if settings is not None:
            await self._writer.run(lambda c: configured(c, settings, self._now()), weight=0)
            self._unwritten = None

    async def _run(self) -> None:
        while True:
            pause = _PAUSE
            try:
                await self._note()
                began = time.monotonic()
                while await self.seal_what_is_due():
                    await asyncio.sleep(_REST * (time.monotonic() - began))
                    began = time.monotonic()
            except Unavailable:
                pause = _RETRY
            except (StorageError, sqlite3.Error) as error:
                _log.error("ledger_not_sealed", error=str(error))
            except Exception:  # noqa: BLE001  (usage is taken and sent all the same)
                _log.exception("ledger_not_sealed")
            await asyncio.sleep(pause)


def configured(connection: sqlite3.Connection, settings: Mapping[str, object], now: float, why: str = "") -> None:
    """Write the settings that bill into the audit log, if they are not the ones that were written last."""
    row = connection.execute(
        "SELECT after FROM audit WHERE action = ? ORDER BY entry DESC LIMIT 1", (CONFIGURED,)
    ).fetchone()
    before = {} if row is None else json.loads(row[0])
    if row is None or before != json.loads(json.dumps(settings)):
        audit.record(connection, Change(SERVICE, CONFIGURED, "configuration", before, settings, why), now)
