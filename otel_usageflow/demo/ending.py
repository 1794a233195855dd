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

from otel_usageflow.demo.cast import PRICES, UNKNOWN_ACCOUNT, dollars
from otel_usageflow.demo.scene import Scene
from otel_usageflow.demo.stage import Stage
from otel_usageflow.demo.verdict import Verdict


def print_ending(scene: Scene, stage: Stage, verdict: Verdict, console: Console) -> None:
    """Print it all."""
    console.print()
    console.print(Text("What each customer owes", style="bold"), Text("(by the Stripe double's count)", style="dim"))
    console.print(_bills(scene))
    console.print()
    for label, text in _facts(scene, verdict):
        console.print(Text(f"{label:<14}", style="bold"), Text(text), sep="", soft_wrap=True)
    console.print()
    for line in _next_steps(stage, os.environ):
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


def _facts(scene: Scene, verdict: Verdict) -> Iterator[tuple[str, str]]:
    tally, ledger = scene.tally, scene.ledger
    sent = f"{tally.sent.total():,} requests, {tally.billable.total():,} of them of a customer"
    yield "sent", f"{sent}; {scene.spans:,} spans acknowledged"
    trouble = f"{scene.again} batches of spans sent again"
    yield "trouble", trouble + (", the service killed in the middle (kill -9)" if scene.crashes else "")
    yield "billed", f"{ledger.billed:,} usage records in {scene.event_count:,} meter events"
    for reason, count in sorted(ledger.reasons.items()):
        meaning = f" ({UNKNOWN_ACCOUNT} has no customer at Stripe)" if reason == "no_customer" else ""
        yield "kept", f"{count} usage records in quarantine: {reason}{meaning}"
    if verdict.billed_once:
        yield "billed once", "yes: own count and Stripe's are equal for every customer and meter"
    for number, difference in enumerate(verdict.differences):
        yield "" if number else "billed once", ("   " if number else "NO: ") + difference


def _next_steps(stage: Stage, environment: Mapping[str, str]) -> Iterator[str]:
    command, config = this_command(), shlex.quote(str(stage.config))
    yield f"The ledger, the configuration and the logs lie in {stage.config.parent}"
    yield "Try next:"
    yield f"  {command} usage --config {config}"
    yield f"  {command} preview --config {config} --input {shlex.quote(str(stage.spans))}"
    yield f"  {command} print-config --config {config}"
    key = environment.get("STRIPE_API_KEY", "")
    if key.startswith(("sk_test_", "rk_test_")):
        yield ""
        yield from _with_real_stripe(command, config)


def _with_real_stripe(command: str, config: str) -> Iterator[str]:
    yield "STRIPE_API_KEY holds a test key. The demo has not used it; to bill the same into your Stripe sandbox:"
    yield f"  1. There, make the meters {', '.join(PRICES)}"
    yield "     (sum; customer key stripe_customer_id, value key value) and customers whose metadata says who they"
    yield "     are: account_id, api_key_sha256, tenant or org."
    yield "  2. Start the service, and send it spans of your API:"
    yield f"     {command} --config {config} \\"
    yield "       --set 'exporters::stripe_meter::api_key=${env:STRIPE_API_KEY}' \\"
    for name, host in (("api", "api"), ("meter_events", "meter-events"), ("connect", "connect")):
        yield f"       --set exporters::stripe_meter::endpoints::{name}=https://{host}.stripe.com \\"
    yield "       --set extensions::sqlite_storage::directory=./usageflow-data"


def this_command() -> str:
    """How to call this program again from here."""
    called = Path(sys.argv[0])
    found = shutil.which("otel-usageflow")
    if called.name != "otel-usageflow":
        return f"{shlex.quote(os.path.relpath(sys.executable))} -m otel_usageflow"
    if found is not None and Path(found).resolve() == called.resolve():
        return "otel-usageflow"
    return shlex.quote(os.path.relpath(called))
