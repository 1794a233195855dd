"""The locked requirements: complete, with hashes, and from nowhere in particular."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ("dev", "demo", "fuzz")


def text(lock: str) -> str:
    """What is in a lock."""
    return (ROOT / "requirements" / f"{lock}.txt").read_text()


def pinned(lock: str) -> dict[str, Version]:
    """Package -> version."""
    return {
        name: Version(version) for name, version in re.findall(r"^([\w.-]+)==([\w.+!]+)", text(lock), re.MULTILINE)
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_pinned_in_its_range(lock: str) -> None:
    """What pyproject.toml and the .in file ask for is in the lock, in a version that they allow."""
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["demo"]]
    lines = (ROOT / "requirements" / f"{lock}.in").read_text().splitlines()
    requirements = [Requirement(line) for line in [*asked, *(line for line in lines if line[:1].isalpha())]]
    versions = pinned(lock)
    assert [str(r) for r in requirements if r.name not in versions or versions[r.name] not in r.specifier] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    """No package can be installed that is not, byte for byte, the one that was locked."""
    entries = re.split(r"\n(?=[a-z0-9])", text(lock))[1:]
    assert len(entries) == len(pinned(lock)) > 20
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_where_packages_come_from(lock: str) -> None:
    """Whoever installs decides on the index."""
    lines = [line for line in text(lock).splitlines() if not line.startswith("#    pip-compile ")]
    assert [
        line for line in lines if "://" in line or "-url" in line or "find-links" in line or "-host" in line
    ] == []


def test_the_demo_runs_with_what_the_tests_ran_with() -> None:
    """Both locks agree on every package that they share."""
    assert pinned("demo").items() <= pinned("dev").items()


def test_what_is_fuzzed_is_what_the_tests_ran_with() -> None:
    """The fuzzer adds itself, and changes nothing."""
    more = dict(pinned("fuzz").items() - pinned("dev").items())
    assert more.keys() == {"atheris"}
