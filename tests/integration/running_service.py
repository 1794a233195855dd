"""A service in the test's own event loop, for commands that are run beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from recording_components import until
from structlog.testing import capture_logs

from otel_usageflow.components import registry
from otel_usageflow.config.load import load
from otel_usageflow.service.run import serve
from otel_usageflow.service.service import Service


@asynccontextmanager
async def running_service(path: Path) -> AsyncIterator[None]:
    """The service of a configuration file, ready, for the length of the block."""
    stopping = asyncio.Event()
    service = Service(load([str(path)], [], registry()))
    task = asyncio.create_task(serve(service, stopping))
    with capture_logs():  # standard output is the command's
        await until(lambda: task.done() or (bool(service.components) and "service" not in service.health.problems()))
        try:
            yield
        finally:
            stopping.set()
            await task
