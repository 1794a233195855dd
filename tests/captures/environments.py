"""Installs what the captured servers need, into a folder that git ignores. Versions are pinned in `apps/`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from stacks import CACHE, HERE

APPS = HERE / "apps"


def prepare(environment: str) -> Path:
    """Install an environment unless it is there already, and return the folder to start its servers in."""
    folder = CACHE / environment
    pins = APPS / environment / ("requirements.txt" if environment == "python" else "package.json")
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        folder.mkdir(parents=True, exist_ok=True)
        if environment == "python":
            _run([sys.executable, "-m", "venv", str(folder)], folder)
            _run([str(folder / "bin/pip"), "install", "--quiet", "--requirement", str(pins)], folder)
        else:
            shutil.copy(pins, folder)
            _run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"], folder)
        stamp.write_text(pins.read_text())
    if environment == "python":
        return APPS / "python"
    # Modules are looked up beside the file that asks for them, so the servers are copied to them.
    for source in (APPS / "node").glob("*.js"):
        shutil.copy(source, folder)
    return folder


def interpreter(environment: str) -> str:
    """The program that runs the servers of an environment."""
    return str(CACHE / "python/bin/python") if environment == "python" else "node"


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
