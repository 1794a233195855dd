"""Keeping one key ring up to date, beside the way of the spans: at intervals, and when a token asks for it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from otel_usageflow.policy.jwt_ring import KeyRing

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """When to load keys; all in seconds."""

    interval: float
    gap: float
    """Between two refreshes at least, however many unknown keys tokens name."""
    recheck: float
    """After which tokens whose keys were not found the last time are reason for another refresh."""
    tries: int
    """How often one refresh asks before it counts as failed."""
    pause: float
    """Between two of these."""
    failing: float
    """At most between two refreshes while they fail."""


REMOTE = Timing(interval=300.0, gap=5.0, recheck=60.0, tries=2, pause=0.5, failing=30.0)
FILE = Timing(interval=5.0, gap=1.0, recheck=5.0, tries=1, pause=0.0, failing=5.0)


class KeyUpkeep:
    """Loads the keys of one ring.

    Args:
        ring: what is kept up to date.
        load: gets what its place holds; raises ValueError with the reason.
        now_ns: the service's time.
        timing: when to load.
        told: called after every refresh.
    """

    def __init__(
        self,
        ring: KeyRing,
        load: Callable[[], Awaitable[bytes]],
        now_ns: Callable[[], int],
        timing: Timing,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self.ring = ring
        self.first = asyncio.Event()
        """Set once the first try has ended, well or not."""
        self.outcomes: Counter[str] = Counter(loaded=0, failed=0)
        """Loads so far."""
        self.reason: str | None = None
        """Why the last one failed."""
        self._load = load
        self._now_ns = now_ns
        self._timing = timing
        self._told = told
        self._failures = 0
        self._began = 0.0
        self._woken = asyncio.Event()
        self._ignored: tuple[str, ...] = ()

    async def run(self) -> None:
        """Keep the ring up to date until cancelled."""
        loop = asyncio.get_running_loop()
        self.ring.wake = lambda: _call(loop, self._woken.set)
        while True:
            await self._refresh()
            await self._until_due()

    async def _refresh(self) -> None:
        waiting = self.ring.begin()
        for attempt in range(self._timing.tries):
            if attempt:
                await asyncio.sleep(self._timing.pause)
            began_ns = self._now_ns()
            self._began = asyncio.get_running_loop().time()
            reason = await self._try(began_ns)
            self.outcomes["loaded" if reason is None else "failed"] += 1
            self._note(reason)
            self.first.set()
            if reason is None:
                break
        self.ring.end(waiting)
        self._failures = 0 if reason is None else self._failures + 1

    async def _try(self, began_ns: int) -> str | None:
        """Load once; the reason if that failed."""
        try:
            if self.ring.take(await self._load(), began_ns):
                _log.info("jwt_keys_loaded", place=self.ring.place, keys=self.ring.keys.current)
        except ValueError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  (whatever it is, the keys from before are still good)
            _log.exception("jwt_keys_failed", place=self.ring.place)
            return f"{self.ring.place}: {type(error).__name__}"
        return None

    def _note(self, reason: str | None) -> None:
        """Say what has changed, once."""
        if reason is not None and reason != self.reason:
            kept = "tokens are judged by the keys from before"
            none = "requests with tokens are refused until there are keys; their clients send them again"
            _log.warning(
                "jwt_keys_not_loaded",
                place=self.ring.place,
                reason=reason,
                keys=self.ring.keys.current,
                meaning=kept if self.ring.loaded else none,
            )
        if reason is None and self.reason is not None:
            _log.info("jwt_keys_loaded_again", place=self.ring.place, keys=self.ring.keys.current)
        if reason is None and self.ring.ignored != self._ignored:
            self._ignored = self.ring.ignored
            if self._ignored:
                _log.warning("jwt_keys_ignored", place=self.ring.place, why=list(self._ignored[:10]))
        self.reason = reason
        self._told()

    async def _until_due(self) -> None:
        while (wait := self._wait()) > 0:
            try:
                async with asyncio.timeout(min(wait, self._timing.recheck)):
                    await self._woken.wait()
            except TimeoutError:
                continue
            finally:
                self._woken.clear()

    def _wait(self) -> float:
        """Seconds until the next refresh."""
        timing = self._timing
        pause = timing.interval
        if self._failures:
            pause = min(timing.gap * 2 ** min(self._failures - 1, 16), timing.failing)
        if self.ring.wanted:
            pause = min(pause, timing.gap)
        elif self.ring.doubted:
            pause = min(pause, timing.recheck)
        return self._began + pause - asyncio.get_running_loop().time()


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(what)
