"""What the captured servers need: installed into a folder that git ignores, in the versions that `apps/` pins.

    python tests/captures/environments.py [NAME ...]

installs what is missing, or only what is named. Tests never install: they say what to call.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stacks import CACHE, HERE

APPS = HERE / "apps"


@dataclass(frozen=True)
class Environment:
    """A language's toolchain with the packages of its servers. `{folder}` and `{pins}` in a command are paths."""

    name: str
    """Of the folder in `apps/` that holds the pins."""
    tools: tuple[str, ...]
    """Commands that must be there."""
    pins: tuple[str, ...]
    """Files that say what is installed, or are built: once one has changed, all is installed anew."""
    install: tuple[tuple[str, ...], ...]
    """Commands, run one after the other in the installed folder, to which the pins have been copied."""
    program: tuple[str, ...]
    """What a capture's command is appended to."""
    servers: str = ""
    """Files in `apps/` that are copied into the folder before each start, where programs look for modules there."""

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return CACHE / self.name

    @property
    def _stamp(self) -> str:
        return hashlib.sha256(b"".join((APPS / self.name / pin).read_bytes() for pin in self.pins)).hexdigest()

    def missing(self) -> str | None:
        """Why its servers cannot be started here, if they cannot."""
        if lacking := [tool for tool in self.tools if shutil.which(tool) is None]:
            return f"{self.name}: {' and '.join(lacking)} not found"
        stamp = self.folder / "installed"
        if not stamp.exists() or stamp.read_text() != self._stamp:
            return f"{self.name} is not installed: python tests/captures/environments.py {self.name}"
        return None

    def prepare(self) -> None:
        """Install it, unless it is there; raises `CalledProcessError` or `OSError`."""
        if self.missing() is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            for pin in self.pins:
                (self.folder / pin).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(APPS / self.name / pin, self.folder / pin)
            variables = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            for command in self.install:
                subprocess.run(self._filled(command), cwd=self.folder, check=True, env=variables)
            (self.folder / "installed").write_text(self._stamp)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """What starts a server."""
        return self._filled((*self.program, *arguments))

    def start_in(self) -> Path:
        """The folder to start servers in."""
        if not self.servers:
            return APPS / self.name if (APPS / self.name).exists() else self.folder
        for source in APPS.glob(self.servers):
            target, text = self.folder / source.name, source.read_bytes()
            if not target.exists() or target.read_bytes() != text:
                target.write_bytes(text)
        return self.folder

    def _filled(self, command: Sequence[str]) -> list[str]:
        return [part.format(folder=self.folder, pins=APPS / self.name) for part in command]


def _sources(name: str, *patterns: str) -> tuple[str, ...]:
    found = (path for pattern in patterns for path in (APPS / name).glob(pattern))
    return tuple(sorted(str(path.relative_to(APPS / name)) for path in found))


_NPM = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
_GO = ("go", "-C", "{pins}", "build", "-mod=readonly", "-buildvcs=false", "-ldflags=-s -w")
_MVN = ("mvn", "--batch-mode", "--quiet", "--strict-checksums")

ENVIRONMENTS: Mapping[str, Environment] = {
    environment.name: environment
    for environment in (
        Environment(
            "python",
            tools=(),
            pins=("requirements.txt",),
            install=(
                (sys.executable, "-m", "venv", "{folder}"),
                ("{folder}/bin/pip", "install", "--quiet", "--requirement", "requirements.txt"),
            ),
            program=("{folder}/bin/python",),
        ),
        Environment("node", ("node", "npm"), ("package.json",), (_NPM,), ("node",), "node/*.js"),
        Environment("node-older", ("node", "npm"), ("package.json",), (_NPM,), ("node",), "node/*.js"),
        Environment(
            "go",
            tools=("go",),
            pins=_sources("go", "*.go", "*.mod", "*.sum"),
            install=(
                (*_GO, "-o", "{folder}/shop", "."),
                (*_GO, "-modfile=older.mod", "-tags=older", "-o", "{folder}/shop-older", "."),
            ),
            program=(),
        ),
        Environment(
            "java",
            tools=("java", "mvn", "sha256sum"),
            pins=_sources("java", "pom.xml", "checksums.txt", "shop/*.java"),
            install=(
                (*_MVN, "--file", "{pins}/pom.xml", "-Dfolder={folder}", "package"),
                ("sha256sum", "--quiet", "--check", "{pins}/checksums.txt"),
            ),
            program=("java", "-XX:TieredStopAtLevel=1", "-cp", "{folder}/classes:{folder}/dependency/*"),
        ),
    )
}


def main(names: Sequence[str]) -> int:
    """Install what is missing; 1 if something could not be installed."""
    failed = 0
    for environment in ENVIRONMENTS.values():
        if (names and environment.name not in names) or environment.missing() is None:
            continue
        began = time.monotonic()
        try:
            environment.prepare()
        except (OSError, subprocess.CalledProcessError) as error:
            failed = 1
            print(f"{environment.name}: {error}", file=sys.stderr)
        else:
            print(f"{environment.name}: installed in {time.monotonic() - began:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
