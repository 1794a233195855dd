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
    "For development",
)


def name(requirement: str) -> str:
    """The name of a requirement, without extras and versions."""
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower()


def declared(section: str) -> set[str]:
    """What pyproject.toml and requirements/dev.in say."""
    if section == SECTIONS[0]:
        lines = PROJECT["dependencies"]
    elif section.startswith("The extra"):
        lines = PROJECT["optional-dependencies"][section.split("`")[1]]
    else:
        lines = [line for line in (ROOT / "requirements" / "dev.in").read_text().splitlines() if line[:1].isalpha()]
    return {name(line) for line in lines}


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
