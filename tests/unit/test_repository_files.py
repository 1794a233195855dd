"""The files of the repository: small, each with a first line that says its subject, and tied to no machine."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import otel_usageflow

ROOT = Path(__file__).parents[2]
MOST_LINES = 400
_MACHINES = re.compile(
    "|".join(
        (
            r"/(?:home|Users)/\w+/",
            r"/root/[\w.]",
            re.escape("pypi." + "org"),
            re.escape("python" + "hosted"),
            re.escape("registry." + "npmjs"),
        )
    )
)


def tracked() -> list[Path]:
    """The files that git knows."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def ours() -> list[Path]:
    """Python files that people write."""
    return [path for path in tracked() if path.suffix == ".py" and not path.stem.endswith("_pb2")]


def test_every_file_says_its_subject() -> None:
    """The first line of a Python file that has any code is its docstring."""
    assert [
        str(path.relative_to(ROOT))
        for path in ours()
        if (tree := ast.parse(path.read_text())).body and ast.get_docstring(tree) is None
    ] == []


def test_files_have_one_subject() -> None:
    """A file over 400 lines has two subjects."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ours()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_names_of_test_files_are_unique() -> None:
    """pytest imports test files by their names."""
    names = [path.name for path in ours() if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


def test_no_file_is_tied_to_a_machine() -> None:
    """No file names a person's folder, or the host of a package index."""
    texts = {path: path.read_bytes().decode("utf-8", "replace") for path in tracked()}
    assert {
        str(path.relative_to(ROOT)): found[0] for path, text in texts.items() if (found := _MACHINES.search(text))
    } == {}


def test_the_version_is_said_once() -> None:
    """pyproject.toml and the package agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == otel_usageflow.__version__


def test_the_licence_is_whole() -> None:
    """The file holds the licence that pyproject.toml names, from its first section to its end."""
    text = (ROOT / "LICENSE").read_text()
    for part in (
        "Apache License",
        "Version 2.0, January 2004",
        "9. Accepting Warranty",
        "END OF TERMS AND CONDITIONS",
    ):
        assert part in text
