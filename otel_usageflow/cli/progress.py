"""How far a long command is: one line on a terminal's standard error, and nothing anywhere else."""

import sys
import time
from types import TracebackType
from typing import Self

_EVERY = 0.1


class ProgressLine:
    """Shows one line, overwritten; cleared at the end."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __call__(self, what: str, done: int, whole: int) -> None:
        """Say what is being done, and how much of it is."""
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + _EVERY
        part = f" {min(100 * done // whole, 100)} %" if whole > 0 else f" {done:,}" if done else ""
        sys.stderr.write(f"\r\x1b[K{what}{part}")
        sys.stderr.flush()
