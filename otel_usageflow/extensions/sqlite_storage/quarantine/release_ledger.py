"""The part of the SQLite ledger that releases by itself; `ledger.releases.Releases` has what is promised."""

from collections.abc import Sequence

from otel_usageflow.extensions.sqlite_storage.connect import ingest_tokens
from otel_usageflow.extensions.sqlite_storage.doubt.doubt_ledger import Runs
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.quarantine import refile, releasing
from otel_usageflow.ledger.refile import Present, present
from otel_usageflow.ledger.releases import Wanting
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.usage import Terms


class SqliteReleases:
    """Releases of one book. `change` runs in the writer's thread, `look` beside it."""

    def __init__(self, change: Runs, look: Runs, names: Names, book: str) -> None:
        self._change = change
        self._look = look
        self._names = names
        self._book = book

    async def refile(self, terms: Sequence[Terms], now: float) -> int:
        """Put held usage under the terms that its policy has now; return how many requests were."""
        apart = await self._look(lambda c: ingest_tokens.accounts(c, self._book))
        # "" is the key's own account, or the exporter's: a token of it is the operator's.
        wanted = present(terms, apart - {""})
        requests = 0
        for series_id in await self._look(lambda c: refile.candidates(c, self._book, wanted)):
            place: tuple[int, int, int] | None = (-1, 0, 0)
            while place is not None:
                done, place = await self._refile(series_id, place, wanted, now)
                requests += done
        return requests

    async def _refile(
        self, series_id: int, after: tuple[int, int, int], wanted: Present, now: float
    ) -> tuple[int, tuple[int, int, int] | None]:
        told = await self._change(lambda c: refile.step(c, self._names, series_id, after, wanted, now))
        if told[0]:
            reached("refile: durable")
        return told

    async def release_young(self, now: float) -> int:
        """Release what a wrong clock took for too old; return how many entries were."""
        entries = 0
        for page in await self._look(lambda c: releasing.young(c, now)):
            entries += await self._release_young(page, now)
        return entries

    async def _release_young(self, page: releasing.Page, now: float) -> int:
        return await self._change(lambda c: releasing.release_young(c, page, now))

    async def wanting(self, now: float, after: float) -> list[Wanting]:
        """What Stripe refused for want of a customer or a meter, at least `after` seconds ago."""
        return await self._look(lambda c: releasing.wanting(c, self._book, now, after))

    async def release_wanting(self, wanting: Wanting, now: float, after: float) -> int:
        """Send such events again; return how many were put back."""
        return await self._change(lambda c: releasing.release_wanting(c, self._book, wanting, now, after))
