"""Ingest tokens for commands, beside a running service or without one: each is one short transaction."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from otel_usageflow.extensions.sqlite_storage.connect import ingest_tokens
from otel_usageflow.extensions.sqlite_storage.file import (
    LEDGER,
    lock,
    open_for_commands,
    open_for_reading,
    open_for_writing,
    transaction,
)
from otel_usageflow.ledger.ingest_tokens import IngestToken


class TokenDesk:
    """The tokens of the ledger in a directory. A running service takes up a change within a second.

    Raises:
        StorageError: the ledger cannot be read or written; nothing was changed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, token: IngestToken, digest: bytes, actor: str) -> None:
        """Keep a new token, in a new ledger if there is none yet."""
        if not (self._directory / LEDGER).exists():
            with lock(self._directory):
                open_for_writing(self._directory).close()
        with self._change() as connection:
            ingest_tokens.create(connection, token, digest, actor)

    def revoke(self, token_id: str, actor: str, why: str, now: float) -> IngestToken:
        """Let nobody in with a token any more; return it as it was before.

        Raises:
            UsageError: there is none of this id.
        """
        with self._change() as connection:
            return ingest_tokens.revoke(connection, token_id, actor, why, now)

    def listed(self) -> list[IngestToken]:
        """All tokens, oldest first; none where there is no ledger yet."""
        if not (self._directory / LEDGER).exists():
            return []
        with closing(open_for_reading(self._directory)) as connection:
            return ingest_tokens.listed(connection)

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with closing(open_for_commands(self._directory)) as connection, transaction(connection):
            yield connection
