"""What is said about reloads: in the log, and on `/metrics`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog

from otel_usageflow.component import Measurement
from otel_usageflow.service.difference import Difference

_log = structlog.get_logger(__name__)

TAKEN, UNCHANGED, FAILED = "taken", "unchanged", "failed"


class ReloadRecord:
    """Remembers how reloads ended. The start counts as a success.

    Args:
        now: unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._counts: Counter[str] = Counter({TAKEN: 0, UNCHANGED: 0, FAILED: 0})
        self._successful = True
        self._at = now()
        self._needs_restart: tuple[str, ...] = ()

    def ended(self, why: str, found: Difference) -> None:
        """The configuration was read, and what can be taken up of it is in force."""
        self._counts[TAKEN if found.processors else UNCHANGED] += 1
        self._successful, self._at, self._needs_restart = True, self._now(), found.needs_restart
        policies: Mapping[str, Sequence[str]] = {
            "added": found.added,
            "removed": found.removed,
            "changed": found.changed,
            "settings": found.settings,
        }
        said: dict[str, object] = {name: list(what) for name, what in policies.items() if what}
        _log.info("reloaded", because=why, **(said or {"policies": "as before"}))
        if found.needs_restart:
            _log.warning(
                "needs_restart",
                paths=list(found.needs_restart),
                meaning="these settings are as they were at the start; the policies of now do not wait for them",
            )

    def failed(self, why: str, errors: Sequence[str], retry_in: float | None = None) -> None:
        """Nothing was taken up."""
        self._counts[FAILED] += 1
        self._successful = False
        again: dict[str, float] = {} if retry_in is None else {"retry_in": round(retry_in, 1)}
        _log.error(
            "reload_failed",
            because=why,
            errors=list(errors),
            meaning="nothing was changed; the policies from before stay in force",
            **again,
        )

    def measurements(self) -> list[Measurement]:
        """The numbers of this moment."""
        return [
            *(
                Measurement(
                    "otel_usageflow_config_reloads_total",
                    "counter",
                    count,
                    "Reloads of the configuration, by how they ended.",
                    {"outcome": outcome},
                )
                for outcome, count in self._counts.items()
            ),
            Measurement(
                "otel_usageflow_config_last_reload_successful",
                "gauge",
                self._successful,
                "Whether the last reload took up what the files hold: 1 or 0.",
            ),
            Measurement(
                "otel_usageflow_config_last_reload_success_timestamp_seconds",
                "gauge",
                self._at,
                "When what the files hold was taken up last, in unix time; at first, that of the start.",
            ),
            Measurement(
                "otel_usageflow_config_needs_restart",
                "gauge",
                len(self._needs_restart),
                "Settings that have changed in the files and that only a restart takes up.",
            ),
        ]
