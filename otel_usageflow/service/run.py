"""One run of the service, from start to drained."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import structlog

from otel_usageflow.config.model import Config
from otel_usageflow.errors import ConfigErrors, StartError
from otel_usageflow.service.garbage import look_less_often
from otel_usageflow.service.logging import configure
from otel_usageflow.service.reloader import Reloader
from otel_usageflow.service.service import Service
from otel_usageflow.service.signals import Hangups, leave_now, stop_on_signals
from otel_usageflow.service.sources import Sources, State

DRAIN = 8.0
"""Seconds from the signal to the end of the process: three quarters for a graceful stop, then a forced one."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reloads:
    """How the configuration can be read again, and who asks for that."""

    sources: Sources
    state: State
    """What the files held just before the configuration was read that the service starts with."""
    hangups: Hangups


def run(config: Config, reloads: Reloads | None = None) -> int:
    """Run the service until SIGTERM or SIGINT.

    Args:
        config: what to run.
        reloads: without it, policies stay as they are.

    Returns:
        The exit status: 0 after a clean stop, 2 when it could not start or failed while running.

    Raises:
        ConfigErrors: a component found a mistake in its configuration.
    """
    configure(config.service.telemetry.logs)
    # A thread, because a blocked event loop or a stuck worker would outlive every timeout of the loop.
    last_resort = threading.Timer(DRAIN, leave_now, [f"not stopped after {DRAIN:g} s, gave up"])
    last_resort.daemon = True
    try:
        asyncio.run(_run_until_signal(config, reloads, last_resort.start))
    except ConfigErrors:
        raise
    except StartError as error:
        _log.error("failed", error=str(error))
        return 2
    except Exception:  # noqa: BLE001  (whatever it was, the exit status is 2)
        _log.exception("crashed")
        return 2
    finally:
        last_resort.cancel()
    _log.info("stopped")
    return 0


async def _run_until_signal(config: Config, reloads: Reloads | None, before_drain: Callable[[], None]) -> None:
    stopping = stop_on_signals()
    service = Service(config)
    reloader: Reloader | None = None
    if reloads is not None:
        watch = config.service.reload.watch
        reloader = Reloader(reloads.sources, service.reload, service.reloads, reloads.state, watch=watch)
        reloads.hangups.listen(reloader.ask)
    await serve(service, stopping, before_drain=before_drain, reloader=reloader)


async def serve(
    service: Service,
    stopping: asyncio.Event,
    *,
    drain: float = DRAIN,
    before_drain: Callable[[], None] = lambda: None,
    reloader: Reloader | None = None,
) -> None:
    """Start the service, run it until `stopping` is set or it fails, and stop it.

    Args:
        service: what to run.
        reloader: changes its policies from when it is ready until it is to stop.
        stopping: ends the run.
        drain: seconds for stopping; after three quarters of them, what still works is cancelled.
        before_drain: is called when stopping begins.

    Raises:
        StartError: it could not start, or a component failed while it ran.
    """
    try:
        await _until(stopping, service.start())
        look_less_often()
        await _until(stopping, _failed(service, reloader))
    finally:
        before_drain()
        await _drain(service, drain * 0.75)


async def _failed(service: Service, reloader: Reloader | None) -> None:
    """Wait until the service has failed, or cannot go on after a reload; raise why."""
    tasks = [asyncio.ensure_future(service.failed())]
    if reloader is not None:
        tasks.append(asyncio.ensure_future(reloader.run()))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(stopping: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Wait for the work, but give it up when the service is to stop."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise


async def _drain(service: Service, graceful: float) -> None:
    closing = asyncio.ensure_future(service.stop())
    _done, pending = await asyncio.wait({closing}, timeout=graceful)
    if pending:
        _log.warning("drain_cut_short", after_seconds=graceful)
        closing.cancel()
    try:
        await closing
    except asyncio.CancelledError:
        if not pending:
            raise
