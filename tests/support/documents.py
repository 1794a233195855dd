"""Documents as programs: the fenced blocks of a Markdown file, and a shell that runs those marked `console`.

In a `console` block a line that starts with `$ ` is a command; the lines after it are what it must print, `...`
standing for any text. A `yaml` block whose first line is a comment with a file's name is written to that file.
"""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (?P<name>[\w./-]+\.ya?ml)(:.*)?\n")
_DONE = "--- that was"
_ASKS = ("otel-usageflow usage ", "otel-usageflow preview ")
PATIENCE = 60.0
"""Seconds that a command, or what it is to print, may take."""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block is to be written to."""
        found = _FILE.match(self.text)
        return found["name"] if self.language == "yaml" and found else None

    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command of a `console` block, and what it must print (nothing: anything will do)."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            lines = part.rstrip("\n").split("\n")
            end = next((n for n, line in enumerate(lines) if not line.endswith("\\")), len(lines) - 1)
            yield "\n".join(lines[: end + 1]), "\n".join(lines[end + 1 :])


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    return [Block(found["language"], found["text"]) for found in _FENCE.finditer(document.read_text())]


def printed_as_told(printed: str, told: str) -> bool:
    """Whether a command printed what the document says, `...` standing for any text."""
    pattern = ".*".join(re.escape(part) for part in told.strip().split("..."))
    lines = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(pattern, lines, re.DOTALL) is not None


class Shell:
    """A bash that runs one command after the other, and what they started in the background."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, command: str) -> tuple[int, str]:
        """The exit status of a command, and what it printed on both outputs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\nprintf '\\n{_DONE} %s\\n' $?\n".encode())
        printed = ""
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(rf"\n{_DONE} (\d+)\n\Z", printed)):
                line = await self._process.stdout.readline()
                assert line, f"the shell ended during: {command}\n{printed}"
                printed += line.decode()
        return int(found[1]), printed[: found.start()]

    async def expect(self, command: str, told: str) -> None:
        """Run a command as a reader would: what only asks is asked again until all is there."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while True:
            status, printed = await self.run(command)
            assert status == 0, f"$ {command}\nexit status {status}\n{printed}"
            if not told or printed_as_told(printed, told):
                return
            waits = command.startswith(_ASKS) and loop.time() < deadline
            assert waits, f"$ {command}\nprinted:\n{printed}\nbut the document says:\n{told}"
            await asyncio.sleep(0.3)


@asynccontextmanager
async def shell(directory: Path, path: Sequence[Path] = (), **environment: str) -> AsyncIterator[Shell]:
    """A shell in a directory; everything that it started is ended with it."""
    search = os.pathsep.join([*map(str, path), str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "STRIPE_"))}
    process = await asyncio.create_subprocess_exec(
        "bash",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=directory,
        env={**inherited, "PATH": search, **environment},
        start_new_session=True,
    )
    try:
        yield Shell(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def copy_of(names: Sequence[str], to: Path, replacements: dict[str, str]) -> None:
    """Copy files and folders of the repository, with other ports than the documents name."""
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns(".venv", "node_modules", "__pycache__"))
        else:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to / name)
    for file in to.rglob("*"):
        if file.suffix in (".yaml", ".md", ".py"):
            file.write_text(replaced(file.read_text(), replacements))


def replaced(text: str, replacements: dict[str, str]) -> str:
    """The text with other words in place of some."""
    for old, new in replacements.items():
        text = re.sub(rf"(?<![\d.]){re.escape(old)}(?!\d)", new, text)
    return text


async def follow(document: Path, shell: Shell, directory: Path) -> int:
    """Do what a document says, in its order; how many commands there were."""
    count = 0
    for block in blocks(document):
        if block.file is not None:
            (directory / block.file).write_text(block.text)
        elif block.language == "console":
            for command, told in block.commands():
                await shell.expect(command, told)
                count += 1
    return count
