"""When policies are reloaded: on SIGHUP, and when a configuration file has changed and is at rest.

Files are looked at once a second, by their contents, because nothing else works on every file system and with every
way to replace a file: editors that rename, Kubernetes that moves a symbolic link, NFS that tells nobody. A change is
taken up once two looks in a row have seen the same, so that no half-written file is read in the hurry. What was
looked at once, good or bad, is not looked at again before it changes.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from otel_usageflow.config.model import Config
from otel_usageflow.errors import ConfigErrors, HalfApplied, StartError, Unavailable
from otel_usageflow.service.difference import Difference
from otel_usageflow.service.reload_record import ReloadRecord
from otel_usageflow.service.sources import Sources, State, changed

LOOK = 1.0
"""Seconds between two looks at the files."""
RETRY = 5.0
"""Seconds after a reload that is not possible now until the next try; each is twice as far from the last."""
LONGEST_RETRY = 60.0

_log = structlog.get_logger(__name__)


class Reloader:
    """Reloads when it is time, one at a time.

    Args:
        sources: the files.
        take_up: puts a configuration in force, or raises; gets the reason for the audit log, too.
        record: told how each reload ended.
        state: what the files held when the configuration was read that is in force.
        watch: whether files are looked at.
        look: seconds between two looks.
        retry: seconds until the first further try of what is not possible now.
    """

    def __init__(
        self,
        sources: Sources,
        take_up: Callable[[Config, str], Awaitable[Difference]],
        record: ReloadRecord,
        state: State,
        *,
        watch: bool = True,
        look: float = LOOK,
        retry: float = RETRY,
    ) -> None:
        self._sources = sources
        self._take_up = take_up
        self._record = record
        self._seen = state
        """What the files held when they were last read."""
        self._moving: State | None = None
        """What they held at the last look, if that was something else."""
        self._watch = watch
        self._look = look
        self._retry = retry
        self._failures = 0
        self._retry_at: float | None = None
        self._retry_why = ""
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Reload as soon as possible. Whoever asks while one is under way gets one more after it."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever it is time, until cancelled.

        Raises:
            HalfApplied: the service has to stop.
        """
        if self._watch:
            _log.info("watching", files=list(self._sources.files))
        while True:
            try:
                await self._reload(await self._reason())
            except HalfApplied:
                raise
            except Exception:  # noqa: BLE001  (looking at files must not stop what bills)
                _log.exception("reload_crashed")
                await asyncio.sleep(self._look)

    async def _reason(self) -> str:
        """Wait until there is a reason to reload."""
        while True:
            try:
                async with asyncio.timeout(self._pause()):
                    await self._asked.wait()
                self._asked.clear()
                return "SIGHUP"
            except TimeoutError:
                pass
            if self._retry_at is not None and asyncio.get_running_loop().time() >= self._retry_at:
                return self._retry_why
            if self._watch and (files := await self._at_rest()):
                return f"{', '.join(files)} changed"

    def _pause(self) -> float | None:
        waits = [self._look] if self._watch else []
        if self._retry_at is not None:
            waits.append(max(self._retry_at - asyncio.get_running_loop().time(), 0.0))
        return min(waits, default=None)

    async def _at_rest(self) -> list[str]:
        """The files that have changed since they were read, once they do not change any more."""
        now = await asyncio.to_thread(self._sources.state)
        before, self._moving = self._moving, None if now == self._seen else now
        return changed(self._seen, now) if self._moving is not None and self._moving == before else []

    async def _reload(self, why: str) -> None:
        self._moving, self._retry_at = None, None
        self._seen = await asyncio.to_thread(self._sources.state)
        try:
            config, self._seen = await self._sources.read()
            found = await self._take_up(config, f"reload: {why}")
        except HalfApplied:
            raise
        except ConfigErrors as error:
            self._failed(why, [str(problem) for problem in error.problems])
        except StartError as error:
            self._failed(why, str(error).splitlines())
        except Unavailable as error:
            self._later(why, error)
        except Exception as error:  # noqa: BLE001  (whatever it is, the policies from before are still good)
            _log.exception("reload_crashed")
            self._failed(why, [f"a mistake of ours: {type(error).__name__}: {error}; see the line before"])
        else:
            self._failures = 0
            self._record.ended(why, found)

    def _failed(self, why: str, errors: list[str]) -> None:
        self._failures = 0
        self._record.failed(why, errors)

    def _later(self, why: str, error: Unavailable) -> None:
        pause = min(self._retry * 2 ** min(self._failures, 16), LONGEST_RETRY)
        self._failures += 1
        self._retry_why = why
        self._retry_at = asyncio.get_running_loop().time() + pause
        self._record.failed(why, [str(error)], pause)
