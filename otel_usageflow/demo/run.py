"""One run of the demo: directory, signals, screen, story, last page."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from otel_usageflow.demo.ending import print_ending
from otel_usageflow.demo.lines import Lines
from otel_usageflow.demo.processes import household
from otel_usageflow.demo.scene import Scene
from otel_usageflow.demo.screen import draw
from otel_usageflow.demo.stage import Stage
from otel_usageflow.demo.story import Story
from otel_usageflow.errors import UsageError

BILLED_ONCE, DIFFERENT = 0, 3
"""Exit statuses."""
_REFRESH = 0.25  # seconds
_PIPED_WIDTH = 100


def run(*, duration: float, directory: Path | None, crash: bool) -> int:
    """Run the demo.

    Args:
        duration: seconds of traffic.
        directory: where ledger, configuration and logs go; a new one for temporary files by default.
        crash: whether the service is killed once.

    Returns:
        0 when everything was billed exactly once, 3 when not, 128 and the signal's number when stopped at once.

    Raises:
        UsageError: the directory is not empty.
        StartError: a process did not start, or died.
    """
    return asyncio.run(_run(Scene(duration, _fresh(directory)), crash))


def _fresh(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="usageflow-demo-")).resolve()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = any(directory.iterdir())
    except OSError as error:
        raise UsageError(f"--directory {directory} cannot be used: {error.strerror}") from None
    if taken:
        raise UsageError(f"--directory {directory} is not empty; name one that does not exist yet")
    return directory.resolve()


async def _run(scene: Scene, crash: bool) -> int:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPED_WIDTH)
    stopping = asyncio.Event()
    ended_by: list[signal.Signals] = []
    work: asyncio.Task[int] = asyncio.create_task(_perform(scene, crash, stopping, console))

    def asked_to_stop(number: signal.Signals) -> None:
        if number is signal.SIGINT and scene.began is not None and not stopping.is_set():
            stopping.set()
            scene.tell("Stopping: waiting for what was sent (Ctrl-C again leaves at once)")
        elif not ended_by:
            ended_by.append(number)
            work.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:  # as under nohup
            continue
        loop.add_signal_handler(number, asked_to_stop, number)
    try:
        return await work
    except asyncio.CancelledError:
        if not ended_by:
            raise
        console.print(Text(f"Stopped. Ledger and logs lie in {scene.directory}"), soft_wrap=True)
        return 128 + ended_by[0]


async def _perform(scene: Scene, crash: bool, stopping: asyncio.Event, console: Console) -> int:
    async with household() as home:
        stage = Stage(home, scene.directory)
        async with _shown(scene, console):
            verdict = await Story(scene, stage, crash, stopping).perform()
    print_ending(scene, stage, verdict, console)
    return BILLED_ONCE if verdict.billed_once else DIFFERENT


@asynccontextmanager
async def _shown(scene: Scene, console: Console) -> AsyncIterator[None]:
    """Show the scene while the block runs: on the whole terminal, or as lines."""
    if not console.is_terminal or console.is_dumb_terminal:
        async with _refreshed(Lines(scene, console.file).refresh):
            yield
        return
    with Live(draw(scene, console), console=console, screen=True, auto_refresh=False) as live:

        def refresh() -> None:
            live.update(draw(scene, console), refresh=True)

        scene.listeners.append(lambda _news: refresh())
        try:
            async with _refreshed(refresh):
                yield
        finally:
            scene.listeners.clear()


@asynccontextmanager
async def _refreshed(refresh: Callable[[], None]) -> AsyncIterator[None]:
    async def again_and_again() -> None:
        while True:
            refresh()
            await asyncio.sleep(_REFRESH)

    task = asyncio.create_task(again_and_again())
    try:
        yield
        refresh()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
