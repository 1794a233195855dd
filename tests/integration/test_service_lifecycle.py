"""The service's life: order, readiness, failures, and a stop that ends."""

import asyncio
import threading

import pytest
from recording_components import TERMS, Part, PartExporter, PartProcessor, Story, config, until
from structlog.testing import capture_logs

from otel_usageflow.component import Consumed
from otel_usageflow.config.model import Config
from otel_usageflow.errors import InvalidData, StartError, Unavailable
from otel_usageflow.model.usage import UsageBatch
from otel_usageflow.service.pipeline import IN_A_THREAD
from otel_usageflow.service.run import serve
from otel_usageflow.service.service import Service

ONE = {"traces": (["in"], "rules", ["out"])}


class Running:
    """A service that runs in the background of a test."""

    def __init__(self, of: Config, *, drain: float = 8.0, summary_interval: float = 60.0) -> None:
        self.service = Service(of, summary_interval=summary_interval)
        self.stopping = asyncio.Event()
        self.task = asyncio.create_task(serve(self.service, self.stopping, drain=drain))

    async def ready(self) -> None:
        await until(lambda: self.task.done() or ("service" not in self.service.health.problems() and self.started()))
        if self.task.done():
            await self.task

    def started(self) -> bool:
        return any(kind == "receivers" for kind, _ in self.service.components)

    async def stop(self) -> None:
        self.stopping.set()
        await self.task


async def test_order() -> None:
    """Storage is first in and last out, receivers are last in and first out."""
    story = Story()
    running = Running(config(story, ONE))
    await running.ready()
    await running.stop()
    ins = ["+disk", "+lamp", "+rules", "+out", "+in"]
    assert story.events == ins + [event.replace("+", "-") for event in reversed(ins)]


async def test_readiness() -> None:
    """Nobody is told that spans can be taken before everything runs, nor once the stop has begun."""
    story = Story()
    running = Running(config(story, ONE))
    await running.ready()
    assert running.service.health.problems() == {}
    await running.stop()
    assert story.problems == [{"service": "starting"}] * 5 + [{"service": "stopping"}] * 5


async def test_exporters_know_what_is_billed() -> None:
    """An exporter gets the terms of all its pipelines' processors, each processor once, and the extensions."""
    story = Story()
    pipelines = {"traces": (["in"], "rules", ["out"]), "traces/b": (["in"], "rules", ["out", "other"])}
    running = Running(config(story, pipelines))
    await running.ready()
    await running.stop()
    assert story.contexts["out"].terms == (TERMS,)
    assert set(story.contexts["out"].extensions) == {"disk", "lamp"}
    assert story.events.count("+in") == story.events.count("+rules") == story.events.count("+out") == 1


async def test_cannot_start() -> None:
    """A component that cannot start is named, and what runs already is stopped."""

    class NoPort(Part):
        async def on_enter(self) -> None:
            raise OSError(98, "Address already in use")

    story = Story()
    running = Running(config(story, ONE, **{"in": NoPort}))
    with pytest.raises(StartError, match=r"^receivers::in cannot start: Address already in use$"):
        await running.task
    assert story.events == ["+disk", "+lamp", "+rules", "+out", "-out", "-rules", "-lamp", "-disk"]


async def test_start_errors_pass() -> None:
    """A component's own StartError is what the user reads."""

    class Damaged(Part):
        async def on_enter(self) -> None:
            raise StartError("the ledger is damaged; restore it")

    with pytest.raises(StartError, match=r"^the ledger is damaged; restore it$"):
        await Running(config(Story(), ONE, disk=Damaged)).task


async def test_component_fails_while_running() -> None:
    """A component that dies stops the whole service, in order, and is named."""
    die = asyncio.Event()

    class Mortal(PartExporter):
        async def watch(self) -> None:
            await die.wait()
            raise ConnectionError("gone")

    story = Story()
    running = Running(config(story, ONE, out=Mortal))
    await running.ready()
    die.set()
    with pytest.raises(StartError, match="exporters::out has failed: gone"):
        await running.task
    assert story.events[-5:] == ["-in", "-out", "-rules", "-lamp", "-disk"]


async def test_watch_may_return() -> None:
    """A component that says that nothing can fail any more does not stop the service."""

    class Safe(PartExporter):
        async def watch(self) -> None:
            return None

    story = Story()
    running = Running(config(story, ONE, out=Safe))
    await running.ready()
    await asyncio.sleep(0)
    assert not running.task.done()
    await running.stop()


async def test_stop_while_starting() -> None:
    """A stop that comes while a component still starts does not wait for it."""
    waits = asyncio.Event()

    class Slow(Part):
        async def on_enter(self) -> None:
            waits.set()
            await asyncio.Event().wait()

    story = Story()
    running = Running(config(story, ONE, **{"in": Slow}))
    await waits.wait()
    await running.stop()
    assert story.events == ["+disk", "+lamp", "+rules", "+out", "-out", "-rules", "-lamp", "-disk"]


async def test_drain_is_waited_for() -> None:
    """A receiver that still answers calls is waited for before anything below it stops."""
    calls_done = asyncio.Event()
    leaving = asyncio.Event()

    class Busy(Part):
        async def on_leave(self) -> None:
            leaving.set()
            await calls_done.wait()
            self.story.events.append("calls done")

    story = Story()
    running = Running(config(story, ONE, **{"in": Busy}))
    await running.ready()
    running.stopping.set()
    await leaving.wait()
    assert story.events[-1] == "-in"
    calls_done.set()
    await running.task
    assert story.events[-6:] == ["-in", "calls done", "-out", "-rules", "-lamp", "-disk"]


async def test_drain_is_cut_short() -> None:
    """After three quarters of the time, what still works is cancelled, and the rest is stopped all the same."""

    class Stuck(Part):
        async def on_leave(self) -> None:
            await asyncio.Event().wait()

    story = Story()
    running = Running(config(story, ONE, **{"in": Stuck}), drain=0.02)
    await running.ready()
    with capture_logs() as logs:
        await running.stop()
    assert story.events[-5:] == ["-in", "-out", "-rules", "-lamp", "-disk"]
    assert "drain_cut_short" in [line["event"] for line in logs]


async def test_failure_while_stopping() -> None:
    """A component that fails while it stops is an error, and the others are stopped all the same."""

    class Clumsy(Part):
        async def on_leave(self) -> None:
            raise ZeroDivisionError("oops")

    story = Story()
    running = Running(config(story, ONE, **{"in": Clumsy}))
    await running.ready()
    with pytest.raises(StartError, match="could not stop cleanly: ZeroDivisionError: oops"):
        await running.stop()
    assert story.events[-5:] == ["-in", "-out", "-rules", "-lamp", "-disk"]


async def consume(story: Story, payload: bytes) -> Consumed:
    consumer = story.contexts["in"].consume
    assert consumer is not None
    return await consumer(payload)


async def test_request_reaches_every_exporter() -> None:
    """A request is answered after every exporter of every pipeline of its receiver has taken it."""
    story = Story()
    pipelines = {"traces": (["in"], "rules", ["a", "b"]), "traces/b": (["in"], "rules", ["c"])}
    parts = {"a": PartExporter, "b": PartExporter, "c": PartExporter}
    running = Running(config(story, pipelines, **parts))
    await running.ready()
    assert await consume(story, b"mm") == Consumed(2, "2 spans have no valid trace or span id and cannot be billed")
    assert [event for event in story.events if "took" in event] == ["a took 5", "b took 5", "c took 5"]
    assert await consume(story, b"") == Consumed()
    await running.stop()


async def test_one_exporter_refuses() -> None:
    """When any exporter cannot take a request, the client is asked to send it again."""

    class Full(PartExporter):
        async def export(self, batch: UsageBatch) -> None:
            raise Unavailable("disk full", retry_after=7)

    story = Story()
    pipelines = {"traces": (["in"], "rules", ["a"]), "traces/b": (["in"], "rules", ["b"])}
    running = Running(config(story, pipelines, b=Full))
    await running.ready()
    with pytest.raises(Unavailable, match="disk full") as caught:
        await consume(story, b"")
    assert caught.value.retry_after == 7
    await running.stop()


async def test_bad_data_and_bugs() -> None:
    """Unreadable data is refused for good; a bug of ours asks the client to send it again."""
    story = Story()
    running = Running(config(story, ONE))
    await running.ready()
    with pytest.raises(InvalidData, match="unreadable"):
        await consume(story, b"bad")
    with pytest.raises(Unavailable, match="internal error"):
        await consume(story, b"bug")
    await running.stop()


async def test_large_requests_leave_the_loop_alone() -> None:
    """A large request is processed in a thread of its own, a small one is not."""
    threads: list[bool] = []

    class Where(PartProcessor):
        def process(self, payload: bytes, received_ns: int) -> UsageBatch:
            threads.append(threading.current_thread() is threading.main_thread())
            return super().process(payload, received_ns)

    story = Story()
    running = Running(config(story, ONE, rules=Where))
    await running.ready()
    await consume(story, b" " * IN_A_THREAD)
    await consume(story, b" " * (IN_A_THREAD + 1))
    assert threads == [True, False]
    await running.stop()


async def test_summary() -> None:
    """The traffic is summed up regularly and at the end, and never when there was none."""
    story = Story()
    with capture_logs() as logs:
        running = Running(config(story, ONE), summary_interval=0.001)
        await running.ready()
        await consume(story, b"m")
        await until(lambda: any(line["event"] == "usage_summary" for line in logs))
        await running.stop()
    summaries = [line for line in logs if line["event"] == "usage_summary"]
    assert summaries == [
        {
            "event": "usage_summary",
            "log_level": "info",
            "spans": 5,
            "requests": 4,
            "billed_records": 2,
            "unmatched": 1,
            "unbilled": 2,
            "malformed": 1,
            "failed_conditions": 0,
            "quarantined": {"no_user": 1},
        }
    ]


async def test_last_summary() -> None:
    """Traffic that no regular line has told of is told of at the end."""
    story = Story()
    with capture_logs() as logs:
        running = Running(config(story, ONE))
        await running.ready()
        await consume(story, b"")
        await running.stop()
    assert [line["spans"] for line in logs if line["event"] == "usage_summary"] == [5]
