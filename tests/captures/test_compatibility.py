"""Every instrumentation that can be run here, run now: the same traffic, and the bill that the page says."""

from collections.abc import Mapping

import pytest
from columns import lettered
from compatibility import PAGE, page, result_of, sections
from environments import ENVIRONMENTS
from live import run
from oracle import bill
from stacks import CAPTURES, Capture

pytestmark = pytest.mark.timeout(900)  # the first test waits for all servers

Spans = Mapping[str, bytes | Exception]


@pytest.fixture(scope="module")
def sent() -> Spans:
    """What each server's exporter has sent, of those whose environment is here."""
    here = {name for name, environment in ENVIRONMENTS.items() if environment.missing() is None}
    return run(capture for capture in CAPTURES if capture.environment in here)


@pytest.mark.slow
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.name)
def test_a_running_stack_costs_what_the_page_says(capture: Capture, sent: Spans) -> None:
    """The bill is the traffic's but for named, explained losses, and is the page's row, versions included."""
    if reason := ENVIRONMENTS[capture.environment].missing():
        pytest.skip(reason)
    spans = sent[capture.name]
    assert isinstance(spans, bytes), repr(spans)

    result = result_of(capture, spans)

    assert result.bill == bill(capture.name)
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert result.row in lines, "make compatibility writes the page anew"
    assert any(
        line.startswith(f"| {capture.stack} | ")
        and capture.conventions in line.split(" | ")[1].split(", ")
        and line.endswith(f" | {result.provenance.sdk} | {', '.join(result.provenance.scopes)} |")
        for line in lines
    ), "make compatibility writes the page anew"


def test_the_page_is_what_the_captures_give() -> None:
    """Written from recorded spans, docs/compatibility.md comes out to the letter."""
    results = [result_of(capture, capture.file.read_bytes()) for capture in CAPTURES]

    assert page(results) == PAGE.read_text(encoding="utf-8"), "make compatibility writes the page anew"


def test_every_loss_has_its_remedy() -> None:
    """What differences.py refers to is a heading of page/remedies.md, and has a snippet; no heading is left over."""
    assert set(lettered()) == set(sections())
    for text in sections().values():
        assert "\n```" in text
