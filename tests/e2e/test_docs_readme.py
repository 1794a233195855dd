"""The README's guide, done by a machine, with the double in place of Stripe."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from documents import ROOT, Block, blocks, copy_of, follow, printed_as_told, replaced, shell
from processes import free_port

from otel_usageflow.testing.stripe import RateLimits, Settings, StripeDouble

README = ROOT / "README.md"
NEEDED = ["README.md", "examples", "collector_config", "tests/captures/sink.py"]
COMMAND = """#!/bin/sh
exec {python} -m otel_usageflow "$@" --set 'exporters::stripe_meter::endpoints={{api: {url}, meter_events: {url}}}'
"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="the documents use curl")
async def test_the_guide_leads_to_usage_at_stripe(tmp_path: Path) -> None:
    """Every command of the README works in a clean directory and prints what it shows; then Stripe has the usage."""
    async with StripeDouble(settings=Settings(limits=RateLimits.off())) as stripe:
        replacements = {port: str(free_port()) for port in ("4317", "4318", "13133", "8000")}
        copy_of(NEEDED, tmp_path, {**replacements, "https://api.stripe.com": stripe.url})
        command = tmp_path / "bin" / "otel-usageflow"
        command.parent.mkdir()
        command.write_text(COMMAND.format(python=sys.executable, url=stripe.url))
        command.chmod(0o755)
        keys = {"STRIPE_API_KEY": stripe.api_key, "STRIPE_SETUP_KEY": stripe.api_key}
        async with shell(tmp_path, [command.parent], **keys) as bash:
            assert await follow(tmp_path / "README.md", bash, tmp_path) > 10
        assert [(event.event_name, str(event.value)) for event in stripe.accepted] == [("api_request", "1")]


def test_the_configuration_is_the_minimal_one() -> None:
    """The README's usageflow.yaml and collector_config/minimal.yaml say the same."""
    (shown,) = [block for block in blocks(README) if block.file == "usageflow.yaml"]
    assert yaml.safe_load(shown.text) == yaml.safe_load((ROOT / "collector_config/minimal.yaml").read_text())


def test_commands_and_what_they_print_are_told_apart() -> None:
    """Commands may be continued on the next line; what they print may leave something out."""
    block = Block("console", "$ one \\\n    --two\nfirst\n...\nlast\n$ three\n")
    assert list(block.commands()) == [("one \\\n    --two", "first\n...\nlast"), ("three", "")]
    assert printed_as_told("first\nsecond\nlast\n", "first\n...\nlast")
    assert not printed_as_told("first\nsecond\n", "first\n...\nlast")
    assert not printed_as_told("first\nlast\nmore\n", "first...last")


def test_only_whole_ports_are_replaced() -> None:
    """A port is replaced where it stands for itself, and not inside another number."""
    assert replaced("127.0.0.1:8000 18000 8000s 80001", {"8000": "9"}) == "127.0.0.1:9 18000 9s 80001"
