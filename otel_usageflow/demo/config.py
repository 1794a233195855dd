"""The demo's configuration: a copy of `collector_config/demo.yaml` with this run's addresses in it."""

import re
from collections.abc import Mapping
from pathlib import Path

from otel_usageflow.errors import StartError

_PLACE = re.compile(r"\$\{env:(USAGEFLOW_DEMO_\w+):-[^}]*\}")


def template() -> str:
    """The text of `demo.yaml`: beside this file in an installed package, in `collector_config/` in a checkout.

    Raises:
        StartError: it is in neither place.
    """
    here = Path(__file__).resolve()
    for path in (here.with_name("demo.yaml"), here.parents[2] / "collector_config" / "demo.yaml"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise StartError("collector_config/demo.yaml is missing; install otel-usageflow again")


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """The text with `${env:USAGEFLOW_DEMO_X:-...}` replaced by the value of `X`."""
    return _PLACE.sub(lambda place: values[place[1].removeprefix("USAGEFLOW_DEMO_")], text)
