"""Named points at which a test can let the process die, as if by kill -9: `reached("commit: written")`.

Nothing happens unless the environment variable OTEL_USAGEFLOW_DIE_AT names the point, with `#3` behind it for the
third time that it is reached. It is read once, at import: otherwise `reached` is an empty function.
"""

import os
import signal
from collections.abc import Callable

POINTS = (
    "commit: written",
    "commit: durable",
    "freeze: written",
    "freeze: durable",
    "begin: durable",
    "send: answered",
    "settle: written",
    "settle: durable",
)
"""Every point; a test walks through them all. `written` is before COMMIT, `durable` after it."""

UPKEEP_POINTS = ("index: written", "prune: written")
"""Those of the background work of a storage, which begins some time after a start."""

CORRECTION_POINTS = (
    "cancel: durable",
    "cancel: answered",
    "correction: written",
    "correction: durable",
)
"""Those of corrections, which usage alone never reaches: an attempt to cancel is written down, answered, settled."""

TRACE_POINTS = ("traces: written", "traces: durable")
"""Those of requests whose quantity is summed over their trace: what is due is decided."""

RELEASE_POINTS = (
    "release: written",
    "discard: written",
    "refile: written",
    "refile: durable",
)
"""Those of releases and of what people decide about quarantine."""

RELOAD_POINTS = ("reload: recorded", "reload: applied")
"""Those of a change of policies while the service runs: it is in the audit log, and in force."""

CONNECT_POINTS = (
    "connect: taken",
    "connect: claimed",
    "connect: exchanged",
    "connect: written",
    "connect: durable",
    "renew: began",
    "renew: answered",
    "renew: written",
    "renew: durable",
)
"""Those of connecting an account, and of the tokens of one that has installed an app."""


def _nothing(_point: str) -> None:
    """The process lives on."""


def _dying(wanted: str) -> Callable[[str], None]:
    name, _, times = wanted.partition("#")
    left = int(times or 1)

    def reached(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached


_wanted = os.environ.get("OTEL_USAGEFLOW_DIE_AT", "")
reached: Callable[[str], None] = _dying(_wanted) if _wanted else _nothing
"""Say that a point is reached."""
