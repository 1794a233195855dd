"""Foreign programs that the interop tests run: what they need, how they are built, where they lie.

    python tests/interop/prepare.py [collector] [js] [java] [stripe_mock]

builds what is missing, or only what is named, into a cache outside of the repository. A file that pins other versions
gets a place of its own, so that nothing old is used. Tests never build: a compile of four minutes is no test.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel_usageflow-tests"
_DONE = "built"


@dataclass(frozen=True)
class Foreign:
    """A program by somebody else, in versions that are pinned in `tests/interop/<name>/`."""

    name: str
    tools: tuple[str, ...]
    """Commands that must be there to build it and to run it."""
    pins: tuple[str, ...]
    """Files that it is built from."""
    command: tuple[str, ...]
    """What builds it; `{to}` is the folder that it goes into."""
    start: str = ""
    """What is run, in that folder."""

    @property
    def folder(self) -> Path:
        """Where it lies once it is built."""
        contents = b"".join((HERE / self.name / pin).read_bytes() for pin in self.pins)
        return CACHE / f"{self.name}-{hashlib.sha256(contents).hexdigest()[:12]}"

    def missing(self) -> str | None:
        """Why it cannot be used here, if it cannot."""
        if lacking := [tool for tool in self.tools if shutil.which(tool) is None]:
            return f"{self.name}: {' and '.join(lacking)} not found"
        if not (self.folder / _DONE).exists():
            return f"{self.name} is not built: python tests/interop/prepare.py {self.name}"
        return None

    def build(self) -> None:
        """Build it; raises `CalledProcessError` or `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for pin in self.pins:
            shutil.copy(HERE / self.name / pin, self.folder)
        subprocess.run([part.format(to=self.folder) for part in self.command], cwd=self.folder, check=True)
        (self.folder / _DONE).touch()


COLLECTOR = Foreign(
    "collector",
    tools=("go",),
    pins=("go.mod", "go.sum", "main.go"),
    command=("go", "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", "{to}/otelcol", "."),
    start="otelcol",
)
JS = Foreign(
    "js",
    tools=("node", "npm"),
    pins=("package.json", "send.js"),
    command=("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"),
    start="send.js",
)
JAVA = Foreign(
    "java",
    tools=("java", "mvn"),
    pins=("pom.xml", "Send.java"),
    command=("mvn", "--batch-mode", "--quiet", "package"),
    start="target/classes",
)
STRIPE_MOCK = Foreign(
    "stripe_mock",
    tools=("go",),
    pins=("go.mod", "go.sum"),
    command=(
        *("go", "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w"),
        *("-o", "{to}/stripe-mock", "github.com/stripe/stripe-mock"),
    ),
    start="stripe-mock",
)
"""Stripe's own: it knows the published OpenAPI, refuses what that does not allow, and keeps nothing."""
ALL = (COLLECTOR, JS, JAVA, STRIPE_MOCK)


def main(names: Sequence[str]) -> int:
    """Build what is missing; 1 if something could not be built."""
    failed = 0
    for foreign in ALL:
        if (names and foreign.name not in names) or foreign.missing() is None:
            continue
        began = time.monotonic()
        try:
            foreign.build()
        except (OSError, subprocess.CalledProcessError) as error:
            failed = 1
            print(f"{foreign.name}: {error}", file=sys.stderr)
        else:
            print(f"{foreign.name}: built in {time.monotonic() - began:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
