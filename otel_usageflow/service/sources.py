"""The files of a configuration: what they hold now, and how to read them again as at the start."""

import asyncio
import hashlib
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from otel_usageflow.config.model import Config
from otel_usageflow.errors import ConfigErrors, ConfigProblem

_TRIES = 5
_PAUSE = 0.2
"""Seconds between two tries to read files that are being written."""

State = Mapping[str, str]
"""File -> a digest of what it holds, or why it cannot be read."""


class Read(NamedTuple):
    """A configuration, and what the files held when it was read."""

    config: Config
    state: State


class Sources:
    """Reads a configuration again.

    Args:
        files: the files that it comes from.
        load: reads and checks them, with what comes from elsewhere; raises ConfigErrors.
    """

    def __init__(self, files: Sequence[str], load: Callable[[], Config]) -> None:
        self.files = tuple(files)
        self._load = load

    def state(self) -> State:
        """What the files hold now. All of it is read: times and sizes may stay the same when contents change."""
        return {file: _state(file) for file in self.files}

    async def read(self) -> Read:
        """Read the configuration from files that nobody writes meanwhile, as far as that can be seen.

        Raises:
            ConfigErrors: everything that is wrong with it.
        """
        state = await asyncio.to_thread(self.state)
        for _ in range(_TRIES):
            try:
                config: Config | ConfigErrors = await asyncio.to_thread(self._read)
            except ConfigErrors as error:
                config = error
            before, state = state, await asyncio.to_thread(self.state)
            if state == before:
                if isinstance(config, ConfigErrors):
                    raise config
                return Read(config, state)
            await asyncio.sleep(_PAUSE)
        raise ConfigErrors(
            [ConfigProblem("", "the files are being written all the time; let them rest for a second")]
        )

    def _read(self) -> Config:
        if problems := [ConfigProblem("", f"{file}: {_NO_FILE}") for file in self.files if _is_stream(file)]:
            raise ConfigErrors(problems)
        return self._load()


def changed(before: State, now: State) -> list[str]:
    """The files that are different."""
    return [file for file, digest in now.items() if before.get(file) != digest]


_NO_FILE = "is no regular file and cannot be read a second time; restart the service to change it"


def _is_stream(file: str) -> bool:
    try:
        mode = Path(file).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _state(file: str) -> str:
    if _is_stream(file):
        return "a stream"
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        return f"error {error.errno}"
