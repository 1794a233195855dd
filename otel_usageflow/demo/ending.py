"""The last page: who owes what, whether everything was billed once, and what to try next."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_usageflow.demo.cast import PRICES, dollars
from otel_usageflow.demo.scene import Scene
from otel_usageflow.demo.stage import Stage
from otel_usageflow.demo.verdict import Verdict

_SHOWN = 10
"""Differences that are listed."""


def print_ending(scene: Scene, stage: Stage, verdict: Verdict, console: Console) -> None:
    """Print it all."""
    console.print()
    console.print(Text("What each customer owes", style="bold"), Text("(by the Stripe double's count)", style="dim"))
    console.print(_bills(scene))
    console.print()
    facts = Table.grid(padding=(0, 2, 0, 0))
    for label, text, style in _facts(scene, verdict):
        facts.add_row(Text(label, style="bold"), Text(text, style=style))
    console.print(facts)
    console.print()
    identifier = scene.events[-1].identifier if scene.events else ""
    for line in next_steps(stage, identifier, os.environ, console.width):
        console.print(Text(line), soft_wrap=True)


def _bills(scene: Scene) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("customer")
    for name in PRICES:
        table.add_column(name, justify="right")
    table.add_column("owes", justify="right", style="bold")
    for customer, bill in scene.bills().items():
        quantities = (bill.quantities.get(name) for name in PRICES)
        table.add_row(customer, *("" if q is None else f"{q:,f}" for q in quantities), dollars(bill.owed))
    return table


def _facts(scene: Scene, verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    """Label, text and style of each line."""
    tally, ledger = scene.tally, scene.ledger
    sent = f"{tally.sent.total():,} requests, {tally.billable.total():,} of them billable"
    yield "sent", f"{sent}; {scene.spans:,} spans acknowledged", ""
    trouble = f"{scene.again} batches of spans sent twice"
    yield "trouble", trouble + ("; the service killed once (kill -9)" if scene.crashes else ""), ""
    yield "billed", f"{ledger.billed:,} usage records in {scene.event_count:,} meter events", ""
    kept = ", ".join(f"{count} {reason}" for reason, count in sorted(ledger.reasons.items()))
    yield "kept", f"{ledger.reasons.total()} usage records in quarantine: {kept or 'none'}", ""
    if scene.reconciled:
        yield "reconcile", scene.reconciled.strip().splitlines()[-1], ""
    if verdict.billed_once:
        yield "billed once", "yes: sent and billed are equal for every customer and meter", "green"
    for number, difference in enumerate(verdict.differences[:_SHOWN]):
        yield ("" if number else "billed once"), ("    " if number else "NO: ") + difference, "red"
    if len(verdict.differences) > _SHOWN:
        yield "", f"    and {len(verdict.differences) - _SHOWN} more differences", "red"


def next_steps(stage: Stage, identifier: str, environment: Mapping[str, str], width: int) -> Iterator[str]:
    """Lines that say where everything lies and which commands to try, no wider than need be.

    `identifier` is that of a meter event to explain.
    """
    command, config = this_command(), f"--config {shlex.quote(str(stage.config))}"
    yield f"Ledger, configuration and logs lie in {stage.config.parent}"
    yield ""
    yield "Try next:"
    yield from _folded(width, f"{command} usage", config, "--by day,event,customer")
    if identifier:
        yield from _folded(width, f"{command} explain", config, f"--event {identifier}")
    yield from _folded(width, f"{command} quarantine list", config)
    yield from _folded(width, f"{command} ledger verify", config)
    yield from _folded(width, f"{command} preview", config, f"--input {shlex.quote(str(stage.spans))}")
    yield from _folded(width, f"{command} validate", config)
    yield "docs/demo.md says what you have seen, and how to go on with your own API."
    if environment.get("STRIPE_API_KEY", "").startswith(("sk_test_", "rk_test_")):
        yield ""
        yield from _with_real_stripe(command, config)


def _folded(width: int, *words: str) -> Iterator[str]:
    """One command, on one line if it fits, else continued as a shell takes it."""
    line = "  " + " ".join(words)
    if len(line) <= width:
        yield line
        return
    yield "  " + " \\\n      ".join(words)


def _with_real_stripe(command: str, config: str) -> Iterator[str]:
    yield "STRIPE_API_KEY holds a test key, which the demo has not used. To bill into that"
    yield "Stripe sandbox:"
    yield "  1. Make these meters there, of the kind `sum`:"
    yield "     " + ", ".join(PRICES)
    yield "  2. Make customers whose metadata says who they are: account_id,"
    yield "     api_key_sha256, tenant or org"
    yield "  3. Start the service with that key and a ledger of its own, and send it spans:"
    yield from _folded(
        0,
        command,
        config,
        "--set 'exporters::stripe_meter::api_key=${env:STRIPE_API_KEY}'",
        "--set exporters::stripe_meter::endpoints=null",
        "--set extensions::sqlite_storage::directory=./usageflow-data",
    )


def this_command() -> str:
    """How to call this program again from here."""
    called = Path(sys.argv[0])
    found = shutil.which("otel-usageflow")
    if called.name != "otel-usageflow":
        return f"{shlex.quote(os.path.relpath(sys.executable))} -m otel_usageflow"
    if found is not None and Path(found).resolve() == called.resolve():
        return "otel-usageflow"
    return shlex.quote(os.path.relpath(called))
