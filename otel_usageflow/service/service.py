"""The service: every component that the configuration uses, started in order and stopped in the opposite order.

Extensions come first (storage before the others), then processors, exporters and, last, receivers: nobody
takes spans before there is a place for them, and on the way out no place closes before its last spans came.
The service's own metrics can be read from before the first of them until after the last.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog

from otel_usageflow import __version__
from otel_usageflow.component import Consumer, Context, Kind, Measured, Watched
from otel_usageflow.config.model import Config
from otel_usageflow.errors import ConfigErrors, ConfigProblem, StartError
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.crash_point import reached
from otel_usageflow.model.reader import COMPILED
from otel_usageflow.model.usage import Terms
from otel_usageflow.service.announce import announcement
from otel_usageflow.service.billing_settings import billing_settings
from otel_usageflow.service.difference import Difference, difference, taking_over
from otel_usageflow.service.health import ServiceHealth
from otel_usageflow.service.metrics import Metrics
from otel_usageflow.service.metrics_server import MetricsServer
from otel_usageflow.service.pipeline import Pipeline, fan_out
from otel_usageflow.service.reload_record import ReloadRecord
from otel_usageflow.service.summary import UsageSummary
from otel_usageflow.service.switch import Switch, billed_through, prepare, record

SUMMARY_INTERVAL = 60.0  # seconds
_SET_BACK = 60.0
"""Seconds by which the system's clock may be set back before the log says so."""

_NAME = "service"
_log = structlog.get_logger(__name__)


class Service:
    """Runs a configuration.

    Args:
        config: what to run.
        summary_interval: seconds between two lines of the log that sum up the traffic.
        clock: the time, for all of its parts.
    """

    def __init__(
        self, config: Config, *, summary_interval: float = SUMMARY_INTERVAL, clock: SteadyClock | None = None
    ) -> None:
        self._config = config
        self._clock = clock or SteadyClock()
        self._set_back = False
        self._remarked: set[ConfigProblem] = set()
        self._summary_interval = summary_interval
        self.summary = UsageSummary()
        self._stack = AsyncExitStack()
        self._watches: set[asyncio.Task[None]] = set()
        self.health = ServiceHealth()
        self.components: dict[tuple[Kind, str], Any] = {}
        """What was started, by kind and id."""
        self.reloads = ReloadRecord(self._clock)
        self.metrics = Metrics(self.summary, self.health, self._clock, own=self.reloads.measurements)
        self.metrics_servers: list[MetricsServer] = []

    async def start(self) -> None:
        """Start everything; ready when it returns.

        Raises:
            StartError: a component cannot start. What was started before it still has to be stopped.
            ConfigErrors: a component found a mistake in its configuration that only it can see.
        """
        self.health.report(_NAME, "starting")
        reader = "compiled" if COMPILED else "plain"  # the plain one is slower, and nothing else
        _log.info("starting", version=__version__, pipelines=list(self._config.pipelines), reader=reader)
        self._remark(self._config)
        await self._open_metrics()
        for id_ in self._extension_order():
            await self._start(Kind.EXTENSION, id_)
        await self._note_configuration()
        for id_ in self._config.used(Kind.PROCESSOR):
            await self._start(Kind.PROCESSOR, id_)
        billed = self._billed()
        for id_ in self._config.used(Kind.EXPORTER):
            await self._start(Kind.EXPORTER, id_, terms=billed_through(id_, self._config, billed))
        pipelines = self._pipelines()
        self._stack.push_async_callback(self._sum_up)
        summing = asyncio.create_task(self._sum_up_regularly())
        self._stack.push_async_callback(_ended, summing)
        for id_ in self._config.used(Kind.RECEIVER):
            feeds = [pipelines[name] for name, p in self._config.pipelines.items() if id_ in p.receivers]
            await self._start(Kind.RECEIVER, id_, consume=fan_out(feeds))
        self._stack.callback(self.health.report, _NAME, "stopping")
        self.health.report(_NAME, None)
        _log.info("ready")

    async def reload(self, new: Config, why: str) -> Difference:
        """Take up the processors of another configuration, all of them at one moment, or nothing.

        Args:
            new: what the files hold now.
            why: what led to the change, for the audit log.

        Raises:
            ConfigErrors, StartError: nothing was taken up, and the message says why.
            Unavailable: the same, but only for now.
        """
        found = difference(self._config, new)
        if found.obstacles:
            raise ConfigErrors(found.obstacles)
        if found.processors:
            await self._switch(taking_over(self._config, new), found.processors, why)
        self._remark(new)
        return found

    async def _switch(self, config: Config, changed: Sequence[str], why: str) -> None:
        switch = Switch(self._billed())
        try:
            await prepare(config, changed, self.components, switch)
            await record(self._storages(), billing_settings(config), billing_settings(self._config), why)
            reached("reload: recorded")
            switch.apply()
        finally:
            switch.discard()
        self._config = config
        self._expect_counts()
        reached("reload: applied")

    def _remark(self, config: Config) -> None:
        """Say what a configuration makes one wonder about, unless it was said before."""
        for warning in config.warnings:
            if warning not in self._remarked:
                _log.warning("configuration", path=warning.path, remark=warning.message)
        self._remarked = set(config.warnings)

    async def failed(self) -> None:
        """Wait until a component has failed.

        Raises:
            StartError: one has.
        """
        while self._watches:
            done, self._watches = await asyncio.wait(self._watches, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and (error := task.exception()):
                    raise _named(task.get_name(), error, "has failed") from error
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Stop everything that was started: receivers first, storage last.

        Raises:
            StartError: a component failed while it stopped; the others were stopped all the same.
        """
        try:
            await self._stack.aclose()
        except Exception as error:
            raise _named(_NAME, error, "could not stop cleanly") from error

    async def _start(
        self, kind: Kind, id_: str, *, consume: Consumer | None = None, terms: tuple[Terms, ...] = ()
    ) -> None:
        name = f"{kind.value}::{id_}"
        configured = self._config.components[kind][id_]
        extensions = {other: entered for (k, other), entered in self.components.items() if k is Kind.EXTENSION}
        context = Context(id_, self.health, extensions, consume, terms, self._clock)
        try:
            component = configured.factory.build(configured.config, context)
            entered = await self._stack.enter_async_context(component)
        except (StartError, ConfigErrors):
            raise
        except Exception as error:
            raise _named(name, error, "cannot start") from error
        self.components[kind, id_] = entered
        if isinstance(entered, Watched):
            task = asyncio.create_task(entered.watch(), name=name)
            self._watches.add(task)
            self._stack.push_async_callback(_ended, task)
        if isinstance(entered, Measured):
            self.metrics.add(name, entered)
            self._stack.push_async_callback(self.metrics.remove, name)
        _log.info("started", component=name, **announcement(configured.config, entered))

    async def _note_configuration(self) -> None:
        """Tell every storage what bills, for its audit log, before the first usage under it comes."""
        settings = billing_settings(self._config)
        for storage in self._storages().values():
            await storage.note_configuration(settings)

    def _storages(self) -> dict[str, Any]:
        return {
            id_: self.components[Kind.EXTENSION, id_]
            for id_ in self._config.used(Kind.EXTENSION)
            if self._config.extensions[id_].factory.serves == "storage"
        }

    async def _open_metrics(self) -> None:
        name = f"{_NAME}::telemetry::metrics"
        for index, reader in enumerate(self._config.service.telemetry.metrics.readers):
            path = f"{name}::readers::{index}::pull::exporter::prometheus"
            server = MetricsServer(self.metrics.page, reader.pull.exporter.prometheus.endpoint, path)
            self.metrics_servers.append(await self._stack.enter_async_context(server))
            _log.info("started", component=name, listening=str(server.address))

    def _billed(self) -> dict[str, tuple[Terms, ...]]:
        """Processor -> what its policies bill."""
        return {id_: self.components[Kind.PROCESSOR, id_].terms for id_ in self._config.used(Kind.PROCESSOR)}

    def _expect_counts(self) -> None:
        billed = self._billed()
        for id_, pipeline in self._config.pipelines.items():
            self.summary.expect(id_, (terms.policy for terms in billed[pipeline.processors[0]]))

    def _pipelines(self) -> dict[str, Pipeline]:
        self._expect_counts()
        return {
            id_: Pipeline(
                id_,
                self.components[Kind.PROCESSOR, pipeline.processors[0]],
                [self.components[Kind.EXPORTER, exporter] for exporter in pipeline.exporters],
                self.summary,
                now_ns=self._clock.ns,
            )
            for id_, pipeline in self._config.pipelines.items()
        }

    def _extension_order(self) -> list[str]:
        extensions = self._config.extensions
        return sorted(self._config.used(Kind.EXTENSION), key=lambda id_: extensions[id_].factory.serves != "storage")

    async def _sum_up_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._summary_interval)
            await self._sum_up()
            self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        """Say once that the system's clock was set back, and once that it is right again."""
        ahead = self._clock.ahead
        if (ahead > _SET_BACK) == self._set_back:
            return
        self._set_back = not self._set_back
        if self._set_back:
            _log.warning(
                "clock_set_back",
                seconds=round(ahead),
                meaning="the service goes on with the time that it had",
                remedy="put the clock right; if it was wrong before and is right now, restart the service",
            )
        else:
            _log.info("clock_right_again")

    async def _sum_up(self) -> None:
        if counts := self.summary.take():
            _log.info("usage_summary", **counts)


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def _named(name: str, error: BaseException, what: str) -> StartError:
    if isinstance(error, StartError):
        return error
    if isinstance(error, OSError):
        return StartError(f"{name} {what}: {error.strerror or error}")
    _log.error("crashed", component=name, exc_info=error)
    return StartError(f"{name} {what}: {type(error).__name__}: {error}")
