"""The Makefile: the tasks that documents name exist, and say what they need."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)


def test_the_tasks_of_the_readme_exist() -> None:
    """demo, test, lint, fmt, proto and docs can be made, and every `make` in the documents is one of the tasks."""
    assert {"demo", "test", "lint", "fmt", "proto", "docs"} <= set(TARGETS)
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "proto").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert named <= set(TARGETS)


@pytest.mark.parametrize("target", sorted({*TARGETS} - {"help"}))
def test_every_task_can_be_planned(target: str) -> None:
    """make knows how to make it from nothing."""
    planned = subprocess.run(["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr


def test_an_old_python_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """Without Python 3.11 the first message says so, and how to name another."""
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (tmp_path / "Makefile").write_text(MAKEFILE)
    made = subprocess.run(
        ["make", ".venv/bin/python", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert made.returncode != 0
    assert "needs Python 3.11 or newer" in made.stderr
    assert "make PYTHON=" in made.stderr


def test_a_machine_without_python_is_told_so(tmp_path: Path) -> None:
    """Where no command is a Python, that is the only thing that is said, and nothing further is tried."""
    (tmp_path / "Makefile").write_text(MAKEFILE)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("make", "sh"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    made = subprocess.run(
        [tools / "make", ".venv/bin/python"],
        cwd=tmp_path,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode != 0
    assert made.stderr.startswith("otel_usageflow needs Python 3.11 or newer")
    assert made.stdout == ""
    assert len(made.stderr.splitlines()) == 2
