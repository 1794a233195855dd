"""Records the captures of this folder again: each vendor's instrumentations in an environment of their own.

    python tests/captures/models/record.py

Needs a package registry; the environments go into a folder that git ignores.
"""

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".venv" / "models"


def main() -> None:
    """Install what is pinned, and let the app write its spans."""
    for pins in sorted(HERE.glob("*.txt")):
        environment = ENVIRONMENTS / pins.stem
        venv.create(environment, with_pip=True, clear=True)
        python = environment / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", pins], check=True)
        subprocess.run([python, HERE / "app.py", pins.stem, HERE / f"{pins.stem}.pb"], check=True)


if __name__ == "__main__":
    sys.exit(main())
