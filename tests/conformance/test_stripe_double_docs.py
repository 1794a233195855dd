"""docs/testing.md says what is so."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import aiohttp

from otel_usageflow.testing.stripe import Fault, RateLimits, StripeDouble, WebhookFault
from otel_usageflow.testing.stripe.control import Control
from otel_usageflow.testing.stripe.settings import SETTABLE

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()


async def test_the_examples_on_the_page_pass() -> None:
    """Each example of the page is a test that passes as it stands."""
    sources = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(sources) == 4
    for source in sources:
        names: dict[str, Any] = {}
        exec(source, names)
        (example,) = [value for name, value in names.items() if name.startswith("test_")]
        await example()


def test_every_fault_and_control_call_is_on_the_page() -> None:
    """The tables of faults and of control calls are whole."""
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE)) == {fault.name for fault in Fault}
    for method, path in Control(StripeDouble())._routes:
        assert f"`{method} /_double/{path}" in PAGE
    assert set(re.findall(r"^\| `([a-z_]+)` \| [^|]* \|$", PAGE, re.MULTILINE)) >= {
        fault.value for fault in WebhookFault
    }


def test_every_setting_is_on_the_page() -> None:
    """Whatever can be set is described."""
    for name in (*SETTABLE, *(item.name for item in dataclasses.fields(RateLimits))):
        assert f"`{name}`" in PAGE or f"{name}=" in PAGE, name


async def test_the_table_of_faults_is_true() -> None:
    """What the page says of the same call again, with the same key and with a new one, is what happens."""
    rows = re.findall(r"^\| `([A-Z_]+)` \|[^|]*\|[^|]*\| ([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE)
    hanging = {Fault.HANG, Fault.HANG_AFTER, Fault.SLOW_AFTER, Fault.SLOW_BEFORE, Fault.STALL}
    checked = 0
    for name, same, new in rows:
        if Fault[name] in hanging:
            continue  # tests/conformance/test_stripe_double_faults.py
        assert (await _again(Fault[name], same_key=True), await _again(Fault[name], same_key=False)) == (same, new)
        checked += 1
    assert checked == len(Fault) - len(hanging)


async def _again(fault: Fault, *, same_key: bool) -> str:
    """Meet a fault, send again, and say in the page's words what that was."""
    async with StripeDouble() as double, aiohttp.ClientSession() as session:
        double.add_meter("api_request")
        customer = double.add_customer()
        double.fault("/v1/billing", fault)
        body = {"event_name": "api_request", "identifier": "e", "payload[stripe_customer_id]": customer}
        statuses: list[tuple[int, bool]] = []
        for key in ("k", "k" if same_key else "other"):
            headers = {"Authorization": f"Bearer {double.api_key}", "Idempotency-Key": key}
            path = f"{double.url}/v1/billing/meter_events"
            sent: Any = {"data": body | {"payload[value]": "1"}, "headers": headers, "allow_redirects": False}
            try:
                async with session.post(path, **sent) as answer:
                    statuses.append((answer.status, "Idempotent-Replayed" in answer.headers))
                    text = await answer.text()
            except aiohttp.ClientConnectionError:
                statuses.append((0, False))
        status, replayed = statuses[1]
        if status == 200:
            whole = text.endswith("}")
            return (
                "executed"
                if not replayed
                else "replayed, whole"
                if fault is Fault.MALFORMED and whole
                else "replayed"
            )
        return "the 500 again" if status == 500 and replayed else "duplicate" if status == 400 else str(status)
