"""Compiles `otel_usageflow/model/_reader.c` when the package is installed, where there is a compiler.

Where there is none, or it fails, the package is installed without it and reads spans in plain Python, which is slower
and nothing else. `OTEL_USAGEFLOW_PLAIN=1` leaves it out on purpose.
"""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("otel_usageflow/model/_reader.c")
OPTIONS = ("-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-cast-function-type")


class CompiledReader(BuildHookInterface[Any]):
    """Adds the compiled reader to the wheel; for an editable install it is put beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; called before the wheel is put together."""
        if os.environ.get("OTEL_USAGEFLOW_PLAIN", "") == "1":
            return
        target = SOURCE.with_suffix(sysconfig.get_config_var("EXT_SUFFIX") or ".so")
        try:
            _compile(Path(self.root) / SOURCE, Path(self.root) / target)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or error
            self.app.display_warning(f"{SOURCE} was not compiled; spans are read in plain Python, slower: {said}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(str(target))


def _compile(source: Path, target: Path) -> None:
    """Compile as this Python itself was; into a file of its own first, because the old one may be in use.

    Raises:
        OSError: there is no compiler.
        subprocess.CalledProcessError: it fails.
    """
    made = target.with_name(f"{target.name}.new")
    code = target.with_name(f"{target.name}.o")
    included = f"-I{sysconfig.get_paths()['include']}"
    steps = (
        [*_words("CC"), *_words("CCSHARED"), *OPTIONS, included, "-c", str(source), "-o", str(code)],
        [*_words("LDSHARED"), str(code), "-o", str(made)],
    )
    try:
        for step in steps:
            subprocess.run(step, check=True, capture_output=True, text=True)  # noqa: S603  (Python's own settings)
        made.replace(target)
    finally:
        for left in (made, code):
            left.unlink(missing_ok=True)


def _words(setting: str) -> list[str]:
    return shlex.split(sysconfig.get_config_var(setting) or "")
