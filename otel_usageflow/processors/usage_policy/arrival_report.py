"""Says in the log that requests are missing: at once when that shows, again now and then, never by span."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from otel_usageflow.policy.completeness import Evidence, Finding, percent
from otel_usageflow.processors.usage_policy.arrival_watch import ArrivalWatch

REPEAT = 10
"""A finding that has not changed is said again after so many intervals with traffic."""
CHANGED = 1.5
"""Times more or less, and a share has changed."""

_log = structlog.get_logger(__name__)
_Key = tuple[str, Evidence]


class ArrivalReport:
    """Asks the watch, and writes down what is new.

    Args:
        watch: who knows.
        interval: seconds between two looks.
        adjusted: whether requests are counted by their weight now.
    """

    def __init__(self, watch: ArrivalWatch, interval: float, adjusted: Callable[[], bool]) -> None:
        self._watch = watch
        self._interval = interval
        self._adjusted = adjusted
        self._task: asyncio.Task[None] | None = None
        self._told: dict[_Key, tuple[float | None, int]] = {}
        """Share when it was said, and how often it was not said since."""

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, with a last look."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._say(await asyncio.to_thread(self._look))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            self._say(await asyncio.to_thread(self._look))

    def _look(self) -> list[Finding]:
        return self._watch.tell(adjusted=self._adjusted())

    def _say(self, findings: list[Finding]) -> None:
        for finding in findings:
            if self._is_new(finding):
                write(finding, adjusted=self._adjusted())

    def _is_new(self, finding: Finding) -> bool:
        key = (finding.service, finding.evidence)
        share, kept_quiet = self._told.get(key, (None, REPEAT))
        if kept_quiet < REPEAT - 1 and not _differ(share, finding.share) and finding.evidence is not Evidence.SDK:
            self._told[key] = share, kept_quiet + 1
            return False
        self._told[key] = finding.share, 0
        return True


def write(finding: Finding, *, adjusted: bool) -> None:
    """Write one finding into the log."""
    share = {} if finding.share is None else {"arriving": percent(finding.share)}
    fields = {"service": finding.service, "evidence": finding.evidence.value, **share, "finding": finding.text}
    if finding.evidence is Evidence.DOUBTS:
        _log.warning("weights_unusable", **fields, remedy=finding.remedy)
    elif finding.evidence is Evidence.WEIGHTS and adjusted:
        _log.info("requests_weighed", **fields, remedy=finding.remedy)
    else:
        _log.warning("requests_missing", **fields, remedy=finding.remedy)


def _differ(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is not now
    return not now / CHANGED < before < now * CHANGED
