"""The demo as people run it: the command, its processes, its signals."""

import asyncio
import codecs
import contextlib
import json
import os
import pty
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from otel_usageflow.cli import main

COMMAND = (sys.executable, "-m", "otel_usageflow")
KEY = "sk_test_of_somebody"
UNHELPFUL = {"STRIPE_API_KEY": KEY, "OTEL_SDK_DISABLED": "true", "http_proxy": "http://127.0.0.1:9"}
"""Surroundings that must not change the demo, or be used by it."""
PATIENCE = 60.0
"""Seconds that one step may take on a busy machine."""


@asynccontextmanager
async def demo(directory: Path, *arguments: str, **streams: object) -> AsyncIterator[Process]:
    """The demo as a process, ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "demo", "--directory", str(directory), *arguments),
        **{"stdin": asyncio.subprocess.DEVNULL, "stdout": PIPE, "stderr": STDOUT, **streams},  # type: ignore[arg-type]
        env={**os.environ, **UNHELPFUL, "TERM": "xterm", "COLUMNS": "", "LINES": ""},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(process: Process, words: str) -> str:
    """What the demo prints until a line has these words."""
    assert process.stdout is not None
    printed = ""
    async with asyncio.timeout(PATIENCE):
        while words not in printed:
            line = (await process.stdout.readline()).decode()
            assert line, printed
            printed += line
    return printed


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  (other processes make it true, and they set no event)
            await asyncio.sleep(0.02)


async def rest(process: Process) -> str:
    """What the demo prints until its end."""
    async with asyncio.timeout(PATIENCE):
        printed, _ = await process.communicate()
    return printed.decode()


async def ask(*arguments: str) -> str:
    """What another command prints."""
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdout=PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


def listening(directory: Path) -> list[str]:
    """The addresses of the demo's configuration on which somebody listens."""
    found = re.findall(r"127\.0\.0\.1:(\d+)", (directory / "usageflow.yaml").read_text())
    assert len(found) >= 3  # OTLP, health, the Stripe double
    taken = []
    for port in found:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                taken.append(port)
    return taken


@pytest.mark.slow
async def test_the_demo_bills_everything_once(tmp_path: Path) -> None:
    """With batches sent twice, a crash and a late customer: all equal, plain lines, and no process is left."""
    directory = tmp_path / "demo"
    async with demo(directory, "--duration", "5s") as process:
        printed = await rest(process)
    assert process.returncode == 0, printed
    assert "billed once  yes" in printed
    assert "kill -9" in printed
    assert "meter event  Stark" in printed
    assert int(re.search(r"(\d+) batches of spans sent twice", printed)[1]) > 0  # type: ignore[index]
    assert "\x1b" not in printed
    assert printed.isascii()
    assert listening(directory) == []


@pytest.mark.slow
async def test_what_the_demo_leaves_behind_can_be_asked(tmp_path: Path) -> None:
    """`usage` on its ledger and `preview` on its recorded spans, two ways that share no state, agree."""
    directory = tmp_path / "demo"
    async with demo(directory, "--duration", "3s", "--no-crash") as process:
        printed = await rest(process)
    assert process.returncode == 0, printed
    assert "kill -9" not in printed
    config = ("--config", str(directory / "usageflow.yaml"))
    kept = json.loads(await ask("usage", *config, "--format", "json"))["usage"]
    spans = str(directory / "spans.pb")
    previewed = json.loads(await ask("preview", *config, "--input", spans, "--format", "json"))["usage"]
    in_ledger = {(u["event_name"], u["user"]): u["quantity"] for u in kept if u["user"]}
    assert in_ledger == {(u["event_name"], u["user"]): u["quantity"] for u in previewed}
    assert {u["user"] for u in kept if u["standing"] != "billed"} == {None, "wayne"}


async def test_a_stripe_key_is_spoken_of_and_not_used(tmp_path: Path) -> None:
    """With a test key in the environment the demo says how to use it, and writes it nowhere."""
    directory = tmp_path / "demo"
    async with demo(directory, "--duration", "1s", "--no-crash") as process:
        printed = await rest(process)
    assert process.returncode == 0, printed
    assert "STRIPE_API_KEY holds a test key, which the demo has not used" in printed
    written = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert KEY not in printed
    assert KEY.encode() not in written


async def test_ctrl_c_ends_the_traffic_and_the_comparison_follows(tmp_path: Path) -> None:
    """SIGINT: what was sent is still billed and compared, and nothing is left running."""
    directory = tmp_path / "demo"
    async with demo(directory, "--duration", "10m") as process:
        await until(process, "meter event")
        process.send_signal(signal.SIGINT)
        printed = await rest(process)
    assert process.returncode == 0, printed
    assert "billed once  yes" in printed
    assert "Traceback" not in printed
    assert listening(directory) == []


async def test_a_demo_that_is_killed_leaves_no_processes(tmp_path: Path) -> None:
    """SIGKILL of the demo itself: its processes end as well."""
    directory = tmp_path / "demo"
    async with demo(directory, "--duration", "10m") as process:
        await until(process, "meter event")
        assert len(listening(directory)) >= 3
        process.kill()
        await process.wait()
    await eventually(lambda: listening(directory) == [])


async def test_in_a_terminal_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    """The live screen gives the terminal back as it was, status 130, no traceback, nothing left running."""
    directory = tmp_path / "demo"
    ours, theirs = pty.openpty()
    shown = Shown()
    async with demo(directory, "--duration", "10m", stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        screen = asyncio.create_task(asyncio.to_thread(shown.read, ours))
        await eventually(lambda: "Traffic for" in shown.text)
        process.send_signal(signal.SIGINT)
        await eventually(lambda: "Stopping:" in shown.text)
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), PATIENCE)
        await screen
    os.close(ours)
    assert process.returncode == 130, shown.text
    places = [shown.text.index(text) for text in ("\x1b[?1049h", "From span to bill", "\x1b[?1049l", "Stopped.")]
    assert places == sorted(places)
    assert "Traceback" not in shown.text
    assert listening(directory) == []


class Shown:
    """What has come to a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def read(self, terminal: int) -> None:
        """Read until nobody writes any more."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        with contextlib.suppress(OSError):  # how a terminal says that
            while part := os.read(terminal, 65536):
                self.text += decoder.decode(part)


def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is mixed into what is already there."""
    (tmp_path / "something").touch()
    assert main(["demo", "--directory", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_packages_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the extra: one message that says what to install."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["demo"]) == 1
    said = capsys.readouterr().err
    assert "not installed: uvicorn\n" in said
    assert "pip install 'otel-usageflow[demo]'" in said
