"""The compiled reader can be left out for one run."""

import importlib.util
import os
import subprocess
import sys

import pytest

BUILT = importlib.util.find_spec("otel_usageflow.model._reader") is not None
ASK = "from otel_usageflow.model.reader import COMPILED; print(COMPILED)"


@pytest.mark.parametrize(("value", "compiled"), [("1", False), ("", BUILT)])
def test_the_plain_reader_is_chosen_by_the_environment(value: str, compiled: bool) -> None:
    """`OTEL_USAGEFLOW_PLAIN=1` leaves the compiled reader out; anything else does not."""
    environment = {**os.environ, "OTEL_USAGEFLOW_PLAIN": value}
    told = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(compiled)
