"""Every promise names the tests that prove it, and those exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
_ID = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<test>\w+)`")


def test_every_promise_has_a_proof() -> None:
    """Each row of the tables names at least one test."""
    rows = [
        line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))
    ]
    assert len(rows) > 10
    assert [row for row in rows if not _ID.search(row)] == []


def test_every_proof_exists() -> None:
    """Each test that the page names is a function of that file."""
    missing = [found[0] for found in _ID.finditer(PAGE) if found["test"] not in functions(ROOT / found["file"])]
    assert missing == []


def functions(file: Path) -> set[str]:
    """The names of the functions of a test file, none if there is no such file."""
    if not file.exists():
        return set()
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
