"""The service's metrics: its own numbers and those of its components, asked for when somebody reads them."""

import asyncio
import contextlib
import platform
from collections.abc import Callable, Mapping, Sequence

import structlog

from otel_usageflow import __version__
from otel_usageflow.component import Health, Measured, Measurement
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.service.exposition import Page
from otel_usageflow.service.summary import UsageSummary

PATIENCE = 3.0
"""Seconds that a component has to answer in; Prometheus waits ten by default."""

_Asked = asyncio.Task[Sequence[Measurement]]
_log = structlog.get_logger(__name__)


class Metrics:
    """Asks everybody. A component that fails or is slow costs its own metrics only, and one line of the log.

    Args:
        summary: the counts of the pipelines.
        health: who has a problem.
        clock: the service's time.
        patience: seconds that a component has to answer in.
        own: further numbers of the service itself.
    """

    def __init__(
        self,
        summary: UsageSummary,
        health: Health,
        clock: SteadyClock,
        *,
        patience: float = PATIENCE,
        own: Callable[[], Sequence[Measurement]] = tuple,
    ) -> None:
        self._summary = summary
        self._health = health
        self._clock = clock
        self._patience = patience
        self._own = own
        self._components: dict[str, Measured] = {}
        self._asked: dict[str, _Asked] = {}
        self._silent: set[str] = set()

    def add(self, name: str, component: Measured) -> None:
        """Ask this component from now on; `name` as in `exporters::stripe_meter`."""
        self._components[name] = component

    async def remove(self, name: str) -> None:
        """Ask it no more: it is about to be left."""
        del self._components[name]
        if task := self._asked.pop(name, None):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def page(self) -> Page:
        """The numbers of this moment."""
        page = Page()
        asked = {name: self._ask(name, component) for name, component in self._components.items()}
        if asked:
            await asyncio.wait(asked.values(), timeout=self._patience)
        measured = {name: self._take(page, name, task) for name, task in asked.items()}
        state = _state(self._health.problems(), measured, self._clock)
        page.add([*self._summary.measurements(), *state, *self._own()])
        return page

    def _ask(self, name: str, component: Measured) -> _Asked:
        # One question at a time: whoever reads the metrics meanwhile gets the same answer, and a component that
        # hangs is not asked again and again.
        task = self._asked.get(name)
        if task is None or task.done():
            task = asyncio.create_task(_measure(component), name=f"{name} measuring")
            task.add_done_callback(_seen)
            self._asked[name] = task
        return task

    def _take(self, page: Page, name: str, task: _Asked) -> bool:
        """Put a component's answer on the page; False if there is none that can be."""
        try:
            if not task.done():
                raise TimeoutError(f"no answer within {self._patience:g} s")
            if task.cancelled():
                return False  # it is being stopped
            page.add(task.result())
        except Exception as error:  # noqa: BLE001  (whatever it is, the other metrics are not affected)
            if name not in self._silent:
                self._silent.add(name)
                _log.warning("metrics_missing", component=name, why=f"{type(error).__name__}: {error}")
            return False
        self._silent.discard(name)
        return True


async def _measure(component: Measured) -> Sequence[Measurement]:
    return await component.measure()


def _seen(task: _Asked) -> None:
    """Keep asyncio from complaining of an error that came too late for anybody to look at."""
    if not task.cancelled():
        task.exception()


def _state(problems: Mapping[str, str], measured: Mapping[str, bool], clock: SteadyClock) -> list[Measurement]:
    """The numbers of the service as a whole."""
    about = {"version": __version__, "python": platform.python_version()}
    return [
        Measurement("otel_usageflow_build_info", "gauge", 1, "What runs; always 1.", about),
        Measurement("otel_usageflow_ready", "gauge", not problems, "Whether spans can be taken: 1 or 0."),
        Measurement(
            "otel_usageflow_clock_ahead_seconds",
            "gauge",
            clock.ahead,
            "How far the system's clock was set back below the service's time since the start.",
        ),
        *(
            Measurement(
                "otel_usageflow_problem", "gauge", 1, "Who keeps spans from being taken now.", {"source": source}
            )
            for source in problems
        ),
        *(
            Measurement(
                "otel_usageflow_component_measured",
                "gauge",
                answered,
                "Whether the component's own metrics are on this page: 1 or 0.",
                {"component": name},
            )
            for name, answered in measured.items()
        ),
    ]
