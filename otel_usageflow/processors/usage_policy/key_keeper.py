"""All key rings of a processor, kept up to date from its start to its end."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import aiohttp

from otel_usageflow.errors import StartError, Unavailable
from otel_usageflow.policy.jwt_ring import KeyRing
from otel_usageflow.processors.usage_policy.key_fetch import TIMEOUT, load, open_session
from otel_usageflow.processors.usage_policy.key_upkeep import FILE, REMOTE, KeyUpkeep, Timing


class KeyKeeper:
    """Runs an upkeep for each ring that is in use, and for those that are about to be.

    Args:
        now_ns: the service's time.
        report: told what keeps tokens from being judged, or None.
        remote: when addresses are asked.
        file: when files are read.
    """

    def __init__(
        self,
        now_ns: Callable[[], int],
        report: Callable[[str | None], None],
        remote: Timing = REMOTE,
        file: Timing = FILE,
    ) -> None:
        self._now_ns = now_ns
        self._report = report
        self._timings = {True: remote, False: file}
        self._session: aiohttp.ClientSession | None = None
        self._rings: tuple[KeyRing, ...] = ()
        self._upkeeps: dict[KeyRing, KeyUpkeep] = {}
        self._tasks: dict[KeyRing, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self.loads_before: Counter[tuple[str, str]] = Counter()
        """(place, outcome) -> loads of rings that are not in use any more."""

    @property
    def upkeeps(self) -> Sequence[KeyUpkeep]:
        """One for each ring that is in use."""
        return [self._upkeeps[ring] for ring in self._rings]

    async def start(self, rings: Sequence[KeyRing], patience: float = TIMEOUT) -> None:
        """Begin, and wait for the first answers, but not for long: spans that need no key must not wait."""
        try:
            self._begin(rings)
            async with asyncio.timeout(patience):
                for ring in rings:
                    await self._upkeeps[ring].first.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            await self.stop()
            raise
        self.use(rings)

    async def prepare(self, rings: Sequence[KeyRing], patience: float = TIMEOUT) -> None:
        """Begin with rings that are not in use yet, until `use` or `discard` is called.

        Raises:
            Unavailable: one has no keys, so that tokens which can be judged now could not be judged by these.
        """
        try:
            self._begin(rings)
            async with asyncio.timeout(patience):
                while not all(ring.loaded for ring in rings if ring not in self._rings):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            missing = [self._upkeeps[ring] for ring in rings if not ring.loaded and ring not in self._rings]
            self.discard()
            reasons = [one.reason or f"{one.ring.place} did not answer in time" for one in missing]
            raise Unavailable(f"no keys yet to verify tokens with: {'; '.join(reasons)}") from None
        except BaseException:
            self.discard()
            raise

    def use(self, rings: Sequence[KeyRing]) -> None:
        """These are in use from now on, and others no more."""
        self._rings = tuple(rings)
        self.discard()
        self._tell()

    def discard(self) -> None:
        """End the upkeep of rings that are not in use."""
        for ring in self._upkeeps.keys() - set(self._rings):
            upkeep, task = self._upkeeps.pop(ring), self._tasks.pop(ring)
            self.loads_before.update({(ring.place, outcome): count for outcome, count in upkeep.outcomes.items()})
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def stop(self) -> None:
        """End all upkeeps."""
        self._rings = ()
        self.discard()
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self._report(None)

    def _begin(self, rings: Sequence[KeyRing]) -> None:
        if self._session is None and any(ring.remote for ring in rings):
            self._session = open_session()
        for ring in rings:
            if ring not in self._upkeeps:
                load_ring = partial(load, ring, self._session)
                timing = self._timings[ring.remote]
                one = self._upkeeps[ring] = KeyUpkeep(ring, load_ring, self._now_ns, timing, self._tell)
                self._tasks[ring] = asyncio.create_task(one.run(), name=f"keys of {ring.place}")

    def _tell(self) -> None:
        self._news.set()
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
