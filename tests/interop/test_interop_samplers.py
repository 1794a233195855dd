"""The samplers and id generators of the JavaScript and Java SDKs: what a sampler kept is told from all there was."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from foreign_programs import PATIENCE, need
from prepare import JAVA, JS

from otel_usageflow.policy.trace_ids import MOST, kept_by, needed

HERE = Path(__file__).parent


def javascript(ratio: float, number: int) -> list[str]:
    environment = {**os.environ, "NODE_PATH": str(need(JS) / "node_modules")}
    return output("node", str(HERE / "js" / "sampled.js"), str(ratio), str(number), environment=environment)


def java(ratio: float, number: int) -> list[str]:
    libraries = str(need(JAVA) / "target" / "dependency" / "*")
    return output("java", "-cp", libraries, str(HERE / "java" / "Sampled.java"), str(ratio), str(number))


def output(*command: str, environment: dict[str, str] | None = None) -> list[str]:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment)
    return ended.stdout.split()


@pytest.mark.parametrize(("kept", "named"), [(javascript, "JavaScript"), (java, "Java")])
@pytest.mark.parametrize("ratio", [0.1, 0.9])
def test_what_a_real_sampler_keeps_shows(kept: Callable[[float, int], list[str]], named: str, ratio: float) -> None:
    """As soon as there are enough traces, the language's own rule and about the ratio are found."""
    found = kept_by({bytes.fromhex(line) for line in kept(ratio, max(64, needed(ratio)))})
    assert found is not None
    assert found.rule.endswith(named)
    assert found.share == pytest.approx(ratio, rel=0.2)


@pytest.mark.parametrize("kept", [javascript, java])
def test_ids_of_real_generators_are_random(kept: Callable[[float, int], list[str]]) -> None:
    """Where everything is sampled, nothing is found."""
    ids = {bytes.fromhex(line) for line in kept(1.0, MOST)}
    assert len(ids) == MOST
    assert kept_by(ids) is None
