"""What became of the requests: the counts that `usageflow.stats()` shows."""

import logging
import threading
from dataclasses import dataclass, fields

LOG = logging.getLogger("otel_usageflow.sdk")


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the process began, or since it was forked.

    `taken == sent + rejected + dropped + waiting`, at rest.
    """

    taken: int = 0
    """Requests that entered this process and are to be billed."""
    made: int = 0
    """Those of them that no instrumentation reported, and for which the middleware made the span."""
    sent: int = 0
    """Those that the service has acknowledged: they are in its ledger."""
    rejected: int = 0
    """Those that the service has refused for good; `problem` has its reason."""
    dropped: int = 0
    """Those that were lost here: the queue was full, or the deadline at the exit passed."""
    waiting: int = 0
    """Those in the queue, or on their way."""
    retries: int = 0
    """Attempts that failed and were made again."""
    without_user: int = 0
    """Requests sent without a user; the service keeps them in quarantine as `no_user`."""
    mistakes: int = 0
    """Calls of the `user` function that raised or gave no text, and values that `set_user` or `add` did not take."""
    duplicates: int = 0
    """Second SERVER spans of one request, by another instrumentation; not taken."""
    problem: str | None = None
    """What the last attempt that failed said."""


_COUNTED = tuple(field.name for field in fields(Stats) if field.name not in {"waiting", "problem"})


class Counts:
    """The counts as they grow, from any thread; each kind of trouble is logged once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._warned: set[str] = set()
        self.problem: str | None = None

    def add(self, name: str, number: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[name] += number

    def lost(self) -> int:
        """The requests that nobody will be billed for."""
        with self._lock:
            return self._counts["rejected"] + self._counts["dropped"]

    def warn_once(self, about: str, text: str, *values: object) -> None:
        """Log a warning the first time that something goes wrong; later only the counts grow."""
        with self._lock:
            if about in self._warned:
                return
            self._warned.add(about)
        LOG.warning(text, *values)

    def stats(self, waiting: int) -> Stats:
        """A copy."""
        with self._lock:
            return Stats(**self._counts, waiting=waiting, problem=self.problem)
