"""What commands print: text for machines, and tables in which nothing is cut and nothing obeyed."""

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_NARROWEST = 60
"""Columns; on a terminal with fewer the terminal itself wraps, because a column without room would vanish."""
_WIDE = 10_000
"""Columns where nobody looks: in a file or a pipe every row is one line."""


def prepare_streams() -> None:
    """Let standard output and error take every character, as an escape where their encoding lacks it.

    A stream that was closed by whoever started us becomes /dev/null: otherwise the next file that is opened would
    take its number, and what is printed would be written into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  (it stays open until the end)
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_stdout() -> None:
    """Throw away what is still to be printed. Python would complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_utf8(text: str) -> None:
    """Write YAML or CSV: UTF-8 whatever the locale says, because an escape would be another value."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(text)


def write_json(document: object) -> None:
    """Write JSON; in ASCII where the locale has no UTF-8."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-")
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=encoding not in ("utf-8", "utf8")) + "\n")


def console() -> "Console":
    """Where tables are printed: folded to the width of a terminal, and as wide as they are elsewhere."""
    from rich.console import Console

    options = {"file": sys.stdout, "highlight": False, "markup": False, "emoji": False}
    terminal = Console(**options)  # type: ignore[arg-type]
    width = max(terminal.width, _NARROWEST) if terminal.is_terminal else _WIDE
    return Console(**options, width=width)  # type: ignore[arg-type]


def table(*columns: str, numbers: tuple[str, ...] = ("requests", "quantity")) -> "Table":
    """An empty table; the columns that hold numbers stand at the right."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        whole = column == "trace id"  # to be copied
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold", no_wrap=whole)
    return made


def shown(text: str) -> str:
    """Text that comes from elsewhere, without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
