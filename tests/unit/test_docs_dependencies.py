"""docs/dependencies.md gives a reason for every dependency, and for nothing else."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SECTIONS = (
    "What an installation needs",
    "The extra `demo`",
    "The extra `parquet`",
    "The extra `sdk`",
    "For fuzzing",
    "For development",
)


def name(requirement: str) -> str:
    """The name of a requirement, without extras and versions."""
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower()


def declared(section: str) -> set[str]:
    """What pyproject.toml and the .in files of requirements/ say."""
    if section == SECTIONS[0]:
        lines = PROJECT["dependencies"]
    elif section.startswith("The extra"):
        lines = PROJECT["optional-dependencies"][section.split("`")[1]]
    elif section == "For fuzzing":
        lines = [line for line in asked("fuzz") if line not in asked("dev")]
    else:
        lines = asked("dev")
    return {name(line) for line in lines}


def asked(lock: str) -> list[str]:
    """The requirements of a .in file."""
    return [line for line in (ROOT / "requirements" / f"{lock}.in").read_text().splitlines() if line[:1].isalpha()]


def explained(section: str) -> set[str]:
    """The packages of the first column of a section's table."""
    page = (ROOT / "docs" / "dependencies.md").read_text()
    text = page.split(f"## {section}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {package for cell in cells for package in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_dependency_has_its_reason(section: str) -> None:
    """The table names what is declared, no more and no less."""
    assert explained(section) == declared(section)
