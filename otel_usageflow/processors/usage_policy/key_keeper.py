"""All key rings of a processor, kept up to date from its start to its end."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import aiohttp

from otel_usageflow.errors import StartError
from otel_usageflow.policy.jwt_ring import KeyRing
from otel_usageflow.processors.usage_policy.key_fetch import TIMEOUT, load, open_session
from otel_usageflow.processors.usage_policy.key_upkeep import FILE, REMOTE, KeyUpkeep, Timing


class KeyKeeper:
    """Starts an upkeep for each ring.

    Args:
        rings: what is kept up to date.
        now_ns: the service's time.
        report: told what keeps tokens from being judged, or None.
        remote: when addresses are asked.
        file: when files are read.
    """

    def __init__(
        self,
        rings: Sequence[KeyRing],
        now_ns: Callable[[], int],
        report: Callable[[str | None], None],
        remote: Timing = REMOTE,
        file: Timing = FILE,
    ) -> None:
        self._rings = tuple(rings)
        self._now_ns = now_ns
        self._report = report
        self._timings = {True: remote, False: file}
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.upkeeps: list[KeyUpkeep] = []
        """One for each ring."""

    async def start(self, patience: float = TIMEOUT) -> None:
        """Begin, and wait for the first answers, but not for long: spans that need no key must not wait."""
        if any(ring.remote for ring in self._rings):
            self._session = open_session()
        self.upkeeps = [
            KeyUpkeep(ring, partial(load, ring, self._session), self._now_ns, self._timings[ring.remote], self._tell)
            for ring in self._rings
        ]
        self._tasks = [asyncio.create_task(one.run(), name=f"keys of {one.ring.place}") for one in self.upkeeps]
        try:
            async with asyncio.timeout(patience):
                for one in self.upkeeps:
                    await one.first.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            await self.stop()
            raise
        self._tell()

    async def stop(self) -> None:
        """End all upkeeps."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._session is not None:
            await self._session.close()
        self._report(None)

    def _tell(self) -> None:
        missing = [ring.place for ring in self._rings if not ring.loaded]
        self._report(f"no keys yet from {', '.join(missing)}: tokens cannot be verified" if missing else None)


def load_once(rings: Sequence[KeyRing], now_ns: Callable[[], int]) -> None:
    """Load the keys of addresses once, for commands. Not from within a running event loop.

    Raises:
        StartError: one cannot be had.
    """
    remote = [ring for ring in rings if ring.remote]
    if remote:
        asyncio.run(_load_all(remote, now_ns))


async def _load_all(rings: Sequence[KeyRing], now_ns: Callable[[], int]) -> None:
    async with open_session() as session:
        for ring in rings:
            try:
                ring.take(await load(ring, session), now_ns())
            except ValueError as error:
                raise StartError(f"{error}; with a copy of the keys in a jwks_file, none are fetched") from None
