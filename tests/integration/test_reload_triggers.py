"""When a reload happens: who asks, which files have changed and how, and what is not repeated."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from outside import EXAMPLE, changed, policy
from recording_components import until
from structlog.testing import capture_logs

from otel_usageflow.components import registry
from otel_usageflow.config.load import load
from otel_usageflow.config.model import Config
from otel_usageflow.errors import HalfApplied, StartError, Unavailable
from otel_usageflow.service.difference import Difference
from otel_usageflow.service.reload_record import ReloadRecord
from otel_usageflow.service.reloader import Reloader
from otel_usageflow.service.signals import Hangups
from otel_usageflow.service.sources import Sources, State

REGISTRY = registry()
LOOK = 0.02


def text(*names: str) -> str:
    """A configuration with policies of these names."""
    policies = [policy(name=name, endpoint=f"GET /{name}", event_name=name) for name in names]
    return changed(EXAMPLE, processors__usage_policy__policies=policies)


class Desk:
    """A reloader on real files, and what it hands over."""

    def __init__(self, *files: Path, watch: bool = True) -> None:
        self.taken: list[list[str]] = []
        self.why: list[str] = []
        self.error: Exception | None = None
        self.free = asyncio.Event()
        self.free.set()
        names = [str(file) for file in files]
        self.loads = 0
        self.watch = watch
        self.sources = Sources(names, self._load)
        self.record = ReloadRecord(lambda: 0.0)
        self.reloader = Reloader(
            self.sources, self._take_up, self.record, self.sources.state(), watch=watch, look=LOOK, retry=0.05
        )

    def _load(self) -> Config:
        self.loads += 1
        return load(self.sources.files, [], REGISTRY, environment={"STRIPE_API_KEY": "sk_test_x"})

    async def _take_up(self, config: Config, why: str) -> Difference:
        await self.free.wait()
        self.why.append(why)
        if self.error is not None:
            raise self.error
        self.taken.append([one.name for one in config.processors["usage_policy"].config.policies])  # type: ignore[attr-defined]
        return Difference(("usage_policy",))

    async def looks(self, number: int = 6) -> None:
        """Let time pass for so many looks at the files."""
        await asyncio.sleep(number * LOOK)

    def successful(self) -> float:
        (one,) = [m.value for m in self.record.measurements() if m.name.endswith("last_reload_successful")]
        return one

    def counts(self) -> dict[str, float]:
        found = [m for m in self.record.measurements() if m.name.endswith("reloads_total")]
        return {one.labels["outcome"]: one.value for one in found if one.value}


@asynccontextmanager
async def at_work(desk: Desk) -> AsyncIterator[list[dict[str, object]]]:
    with capture_logs() as logs:
        task = asyncio.create_task(desk.reloader.run())
        await asyncio.sleep(0)
        assert [line["event"] for line in logs] == (["watching"] if desk.watch else [])
        logs.clear()
        try:
            yield logs  # type: ignore[misc]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "usageflow.yaml"
    made.write_text(text("one"))
    return made


def in_place(file: Path, content: str) -> None:
    file.write_text(content)


def gone(file: Path) -> None:
    file.unlink()


def renamed(file: Path, content: str) -> None:
    other = file.with_suffix(".new")
    other.write_text(content)
    other.rename(file)


def same_time_and_size(file: Path, content: str) -> None:
    before = file.stat()
    file.write_text(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("replace", [in_place, renamed, same_time_and_size])
async def test_a_changed_file_is_taken_up(file: Path, replace: Callable[[Path, str], None]) -> None:
    """However it was written: over the old one, renamed onto it, or with the size and the time of before."""
    desk = Desk(file)
    async with at_work(desk):
        await desk.looks()
        replace(file, text("two"))
        await until(lambda: desk.taken)
        await desk.looks()
    assert desk.taken == [["two"]]
    assert desk.why == [f"reload: {file} changed"]


async def test_a_moved_link_is_taken_up(tmp_path: Path) -> None:
    """As Kubernetes changes a ConfigMap: the file is a link through a folder's link, and that is moved."""
    for name in ("one", "two"):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "usageflow.yaml").write_text(text(name))
    (tmp_path / "..data").symlink_to("..one")
    file = tmp_path / "usageflow.yaml"
    file.symlink_to("..data/usageflow.yaml")
    desk = Desk(file)
    async with at_work(desk):
        (tmp_path / "..data_tmp").symlink_to("..two")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await until(lambda: desk.taken)
    assert desk.taken == [["two"]]


async def test_what_is_the_same_is_left_alone(file: Path) -> None:
    """A file that was only touched, or written anew with the same contents, is no change."""
    desk = Desk(file)
    async with at_work(desk) as logs:
        os.utime(file)
        renamed(file, text("one"))
        await desk.looks()
    assert (desk.loads, desk.taken, logs) == (0, [], [])


async def test_a_half_written_file_is_told_once(file: Path) -> None:
    """What is no YAML is an error once, and the finished file is taken up right after."""
    desk = Desk(file)
    whole = text("one", "two")
    async with at_work(desk) as logs:
        in_place(file, whole[: whole.index("event_name: two") + 5])
        await until(lambda: logs)
        await desk.looks()
        assert [line["event"] for line in logs] == ["reload_failed"]
        assert desk.successful() == 0
        in_place(file, whole)
        await until(lambda: desk.taken)
        await desk.looks()
    assert desk.taken == [["one", "two"]]
    assert [line["event"] for line in logs] == ["reload_failed", "reloaded"]
    assert desk.successful() == 1
    assert desk.counts() == {"failed": 1, "taken": 1}


async def test_while_a_file_grows_it_is_not_read(file: Path) -> None:
    """A file is read when it was the same at two looks, so that one which is being written is no error."""
    desk = Desk(file)
    whole = text("one", "two")
    async with at_work(desk) as logs:
        loop = asyncio.get_running_loop()
        with file.open("w") as growing:
            until_then = loop.time() + 15 * LOOK
            while loop.time() < until_then:
                growing.write("# more\n")
                growing.flush()
                await asyncio.sleep(LOOK / 8)
            assert (desk.loads, logs) == (0, [])
            growing.seek(0)
            growing.truncate()
            growing.write(whole)
        await until(lambda: desk.taken)
    assert desk.taken == [["one", "two"]]
    assert [line["event"] for line in logs] == ["reloaded"]


async def test_every_file_is_watched(file: Path, tmp_path: Path) -> None:
    """Later files win, and a change of any is a change."""
    other = tmp_path / "production.yaml"
    in_place(other, "service: {telemetry: {logs: {level: debug}}}")
    desk = Desk(file, other)
    async with at_work(desk):
        in_place(other, changed(text("two"), receivers=None, exporters=None, extensions=None, service=None))
        await until(lambda: desk.taken)
        in_place(file, text("three"))
        await until(lambda: len(desk.taken) == 2)
    assert desk.taken == [["two"], ["two"]]
    assert desk.why == [f"reload: {other} changed", f"reload: {file} changed"]


async def test_a_file_that_is_gone_is_told_once(file: Path) -> None:
    """The policies stay, and when it is back it is read again."""
    desk = Desk(file)
    async with at_work(desk) as logs:
        gone(file)
        await until(lambda: logs)
        await desk.looks()
        assert [line["errors"] for line in logs] == [[f"{file}: there is no such file"]]
        in_place(file, text("one"))
        await until(lambda: desk.taken)
    assert desk.successful() == 1


async def test_errors_are_those_of_validate(file: Path) -> None:
    """All of them, each with its path, as the command prints them."""
    desk = Desk(file)
    async with at_work(desk) as logs:
        in_place(file, text("one", "one").replace("api_key:", "api_kee:"))
        await until(lambda: logs)
    errors = logs[0]["errors"]
    assert isinstance(errors, list)
    assert [str(error).partition(": ")[0] for error in errors] == [
        "processors::usage_policy::policies::1::name",
        "exporters::stripe_meter::api_kee",
    ]
    assert desk.taken == []


async def test_asked_for(file: Path) -> None:
    """Whoever asks gets a reload at once, whether or not a file has changed, and the watch does not repeat it."""
    desk = Desk(file)
    async with at_work(desk):
        desk.reloader.ask()
        await until(lambda: desk.taken)
        in_place(file, text("two"))
        desk.reloader.ask()
        await until(lambda: len(desk.taken) == 2)
        await desk.looks()
    assert desk.taken == [["one"], ["two"]]
    assert desk.why == ["reload: SIGHUP"] * 2


async def test_a_storm_of_requests_is_one_more_reload(file: Path) -> None:
    """What comes while a reload is under way is answered by one after it."""
    desk = Desk(file)
    desk.free.clear()
    async with at_work(desk):
        desk.reloader.ask()
        await until(lambda: desk.loads == 1)
        for _ in range(1000):
            desk.reloader.ask()
        desk.free.set()
        await until(lambda: len(desk.taken) == 2)
        await desk.looks()
    assert len(desk.taken) == 2


async def test_without_watching_only_who_asks_is_heard(file: Path) -> None:
    """`service::reload::watch: false`."""
    desk = Desk(file, watch=False)
    async with at_work(desk):
        in_place(file, text("two"))
        await desk.looks(10)
        assert desk.loads == 0
        desk.reloader.ask()
        await until(lambda: desk.taken)


async def test_what_is_not_possible_now_is_tried_again(file: Path) -> None:
    """An Unavailable passes: the same files are taken up later, without anybody touching them."""
    desk = Desk(file)
    desk.error = Unavailable("the disk is full")
    async with at_work(desk) as logs:
        in_place(file, text("two"))
        await until(lambda: len(desk.why) >= 2)
        assert logs[0]["retry_in"] == 0.1  # rounded
        assert desk.successful() == 0
        desk.error = None
        await until(lambda: desk.taken)
        await desk.looks()
    assert desk.taken == [["two"]]
    assert set(desk.why) == {f"reload: {file} changed"}


@pytest.mark.parametrize("error", [StartError("exporters::x: no\nexporters::y: no"), ZeroDivisionError("oops")])
async def test_what_can_never_be_is_tried_once(file: Path, error: Exception) -> None:
    """A definite no, or a mistake of ours, is said once and keeps nobody from trying something else."""
    desk = Desk(file)
    desk.error = error
    async with at_work(desk) as logs:
        in_place(file, text("two"))
        await until(lambda: logs)
        await desk.looks(10)
        assert len(desk.why) == 1
        desk.error = None
        in_place(file, text("three"))
        await until(lambda: desk.taken)
    failed = next(line for line in logs if line["event"] == "reload_failed")
    assert failed["meaning"] == "nothing was changed; the policies from before stay in force"
    assert desk.taken == [["three"]]


async def test_looking_cannot_end_the_service(file: Path) -> None:
    """Whatever goes wrong when files are looked at, it is logged, and the next look is another chance."""

    class Stumbling(Sources):
        left = 3

        def state(self) -> State:
            self.left -= 1
            if self.left in (0, 1):
                raise RuntimeError("can't start new thread")
            return super().state()

    desk = Desk(file)
    stumbling = Stumbling([str(file)], desk._load)
    desk.reloader = Reloader(stumbling, desk._take_up, desk.record, stumbling.state(), look=LOOK)
    async with at_work(desk) as logs:
        in_place(file, text("two"))
        await until(lambda: desk.taken)
    assert [line["event"] for line in logs] == ["reload_crashed", "reload_crashed", "reloaded"]


async def test_half_a_change_ends_the_service(file: Path) -> None:
    """When a component breaks its promise, only a restart is safe."""
    desk = Desk(file)
    desk.error = HalfApplied("in part")
    desk.reloader.ask()
    with pytest.raises(HalfApplied):
        await desk.reloader.run()


async def test_a_stream_cannot_be_read_again(tmp_path: Path) -> None:
    """A configuration from a pipe is of the start only; a reload says so, and does not wait for the pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    desk = Desk(pipe)
    async with at_work(desk) as logs:
        desk.reloader.ask()
        await until(lambda: logs)
    errors = logs[0]["errors"]
    assert isinstance(errors, list)
    assert "is no regular file" in errors[0]


async def test_hangups_are_heard_early_and_late() -> None:
    """A SIGHUP before anybody listens is kept, each one after that is told, and none ends the process."""
    heard: list[int] = []
    before = signal.getsignal(signal.SIGHUP)
    try:
        hangups = Hangups()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        hangups.listen(lambda: heard.append(1))
        assert heard == [1]
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(heard) == 2)
    finally:
        signal.signal(signal.SIGHUP, before)
