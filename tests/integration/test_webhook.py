"""The webhook over real sockets: signed deliveries are hints, and everything else is refused."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import stripe as stripe_sdk
import yaml
from billing import CHAT, record, total
from connecting import connecting, written
from hearing import SECRET, Hearing, hearing

from otel_usageflow.ledger.connections import ConnectionState
from otel_usageflow.testing.stripe import StripeDouble, WebhookFault

NOW = 1_790_000_000


@pytest.fixture
async def stripe() -> AsyncIterator[StripeDouble]:
    """A double with a meter; its events can be read an hour late, so that only the webhook tells in time."""
    async with StripeDouble() as running:
        running.add_meter("api_request")
        running.settings.events_lag = 3_600
        running.settings.search_lag = 3_600
        yield running


async def eventually(here: Hearing, **outcomes: int) -> None:
    """Wait until so many deliveries came."""
    async with asyncio.timeout(10):
        while await here.heard() != outcomes:  # noqa: ASYNC110  (nobody is told when a metric changes)
            await asyncio.sleep(0.02)


async def post(here: Hearing, body: bytes, header: str | None, method: str = "POST") -> tuple[int, str]:
    """Deliver by hand."""
    headers = {} if header is None else {"Stripe-Signature": header}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, here.url, data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


def signed(body: bytes, secret: str = SECRET, at: float | None = None) -> str:
    """A signature, made by Stripe's own package."""
    moment = int(time.time() if at is None else at)
    return stripe_sdk.WebhookSignature.generate_signature_header(body.decode(), secret, moment)


def told(kind: str = "customer.updated", **changes: Any) -> bytes:
    """A snapshot event about a customer."""
    event = {
        "id": "evt_1",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {"id": "cus_forged", "object": "customer", "metadata": {"account_id": "acme"}}},
    }
    return json.dumps({**event, **changes}).encode()


async def test_a_new_customer_is_billed_at_once(tmp_path: Path, stripe: StripeDouble) -> None:
    """Usage that waits is billed as soon as the webhook tells, although events are not polled for hours."""
    async with hearing(tmp_path, stripe) as here:
        stripe.add_webhook(here.url, secret=SECRET, events=["customer.*"])
        await here.bill(record("acme"))
        customer = stripe.add_customer({"account_id": "acme"})
        await stripe.wait_until(lambda: total(stripe, customer) == 1)
        assert await here.heard() == {"used": 1}


async def test_a_value_that_moves_is_followed(tmp_path: Path, stripe: StripeDouble) -> None:
    """A value that goes from one customer to another is billed to the other, whatever order the deliveries have."""
    first = stripe.add_customer({"account_id": "acme"})
    async with hearing(tmp_path, stripe) as here:
        stripe.add_webhook(here.url, secret=SECRET, events=["customer.*"])
        stripe.webhook_fault(WebhookFault.DUPLICATED, times=None)
        await here.bill(record("acme"))
        await stripe.wait_until(lambda: total(stripe, first) == 1)
        second = stripe.add_customer({"account_id": "acme"})
        stripe.update_customer(first, {"account_id": ""})
        await eventually(here, used=4)
        async with asyncio.timeout(20):
            while await here.known(first, second) != [{}, {"account_id": "acme"}]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await here.bill(record("acme"))
        await stripe.wait_until(lambda: total(stripe, second) == 1)
        assert total(stripe, first) == 1


async def test_what_a_delivery_says_is_never_believed(tmp_path: Path, stripe: StripeDouble) -> None:
    """A signed delivery that is replayed or made up leads to a look at Stripe, and nobody else is billed."""
    customer = stripe.add_customer({"account_id": "acme"})
    other = stripe.add_customer({"account_id": "other"})
    async with hearing(tmp_path, stripe) as here:
        await here.bill(record("acme"))
        await stripe.wait_until(lambda: total(stripe, customer) == 1)
        for facts in (
            {"id": "cus_forged", "object": "customer", "metadata": {"account_id": "acme"}},
            {"id": other, "object": "customer", "metadata": {"account_id": "acme"}},
            {"id": customer, "object": "customer", "metadata": {}},
        ):
            body = told(data={"object": facts})
            assert await post(here, body, signed(body)) == (200, "used\n")
        asked = [f"/v1/customers/{name}" for name in ("cus_forged", other, customer)]
        await stripe.wait_until(lambda: set(asked) <= {call.path for call in stripe.calls})
        await here.bill(record("acme"))
        await stripe.wait_until(lambda: total(stripe, customer) == 2)
        assert total(stripe, other) == 0


async def test_what_is_known_costs_no_read(tmp_path: Path, stripe: StripeDouble) -> None:
    """Most changes of customers are about something else: they are answered and cost nothing."""
    customer = stripe.add_customer({"account_id": "acme"})
    async with hearing(tmp_path, stripe) as here:
        await here.bill(record("acme"))
        await stripe.wait_until(lambda: total(stripe, customer) == 1)
        facts = {"id": customer, "object": "customer", "metadata": {"account_id": "acme", "plan": "gold"}}
        body = told(data={"object": facts})
        assert (await post(here, body, signed(body)))[0] == 200
        late = stripe.add_customer({"account_id": "late"})
        body = told(data={"object": {"id": late, "object": "customer", "metadata": {"account_id": "late"}}})
        assert (await post(here, body, signed(body)))[0] == 200
        await stripe.wait_until(lambda: any(call.path == f"/v1/customers/{late}" for call in stripe.calls))
        assert not any(call.path == f"/v1/customers/{customer}" for call in stripe.calls)


async def test_bad_signatures_are_refused(
    tmp_path: Path, stripe: StripeDouble, capfd: pytest.CaptureFixture[str]
) -> None:
    """No header, another secret, a changed body, a recording, nonsense: 400 with the reason, and never the secret."""
    body = told()
    async with hearing(tmp_path, stripe) as here:
        bad = (
            (body, None),
            (body, ""),
            (body, "nonsense"),
            (body, "t=1,v1=é"),
            (body, "t=x,v1=00"),
            (body, signed(body, "whsec_other")),
            (body + b" ", signed(body)),
            (b"\xff\xfe", "t=1,v1=00"),
            (body, signed(body, at=time.time() - 3_600)),
        )
        answers = [await post(here, *one) for one in bad]
        assert [status for status, _ in answers] == [400] * len(bad)
        assert "too old" in answers[-1][1]
        assert "signing secret" in answers[5][1]
        assert await here.heard() == {"bad_signature": len(bad)}
        assert not any(call.path.startswith("/v1/customers/cus") for call in stripe.calls)
    said = "".join((*capfd.readouterr(), *(text for _, text in answers)))
    assert said.count("webhook_not_used") == 1  # once a minute, however many there are
    assert SECRET not in said


async def test_a_recording_is_taken_within_the_window_only(tmp_path: Path, stripe: StripeDouble) -> None:
    """`tolerance` says how old a delivery may be."""
    body = told()
    async with hearing(tmp_path, stripe, tolerance="10m") as here:
        assert (await post(here, body, signed(body, at=time.time() - 400)))[0] == 200
        assert (await post(here, body, signed(body, at=time.time() - 700)))[0] == 400


async def test_only_events_are_taken(tmp_path: Path, stripe: StripeDouble) -> None:
    """Other methods, bodies that are too large or no events, and other paths are refused."""
    async with hearing(tmp_path, stripe) as here:
        assert (await post(here, b"", None, "GET"))[0] == 405
        for body in (
            b"[]",
            b"[" * 50_000,
            b"{}",
            b"null",
            b'"text"',
            b"not json",
            told(data={}),
            told(created="soon"),
        ):
            assert (await post(here, body, signed(body)))[0] == 400, body
        large = told(padding="x" * 600_000)
        assert (await post(here, large, signed(large)))[0] == 413
        async with aiohttp.ClientSession() as session, session.post(here.url + "/other", data=b"") as answer:
            assert answer.status == 404


async def test_secrets_are_rotated(tmp_path: Path, stripe: StripeDouble) -> None:
    """While a secret is rotated both are good; a delivery that both have signed is taken under either."""
    async with hearing(tmp_path, stripe, signing_secrets=["whsec_new"]) as here:
        body = told()
        for header in (signed(body), signed(body, "whsec_new")):
            assert (await post(here, body, header))[0] == 200
        endpoint = stripe.add_webhook(here.url, secret=SECRET, events=["customer.*"])
        endpoint.roll("whsec_new")
        stripe.add_customer({"account_id": "acme"})
        await eventually(here, used=3)


async def test_modes_and_accounts_are_kept_apart(tmp_path: Path, stripe: StripeDouble) -> None:
    """The other mode and accounts that no policy names are answered, counted, and change nothing."""
    stripe.add_meter("api_request", account="acct_1")
    async with hearing(tmp_path, stripe, terms=(CHAT, replace(CHAT, account="acct_1"))) as here:
        own = stripe.add_customer({"account_id": "acme"})
        theirs = stripe.add_customer({"account_id": "acme"}, account="acct_1")
        facts = {"object": "customer", "metadata": {"account_id": "acme"}}
        for change, outcome in (
            ({"livemode": True}, "other_mode"),
            ({"account": "acct_2"}, "unknown_account"),
            ({"type": "invoice.paid"}, "other_event"),
            ({"data": {"object": {"id": own, **facts}}}, "used"),
            ({"account": "acct_1", "data": {"object": {"id": theirs, **facts}}}, "used"),
        ):
            body = told(**change)
            assert await post(here, body, signed(body)) == (200, f"{outcome}\n")
        await here.bill(record("acme"), record("acme", terms=replace(CHAT, account="acct_1")))
        await stripe.wait_until(lambda: total(stripe, own) == 1)
        await stripe.wait_until(lambda: stripe.total("api_request", theirs, account="acct_1") == 1)
        assert await here.heard() == {"other_mode": 1, "unknown_account": 1, "other_event": 1, "used": 2}


async def test_a_thin_event_wakes_the_reports(tmp_path: Path, stripe: StripeDouble) -> None:
    """What Stripe reports late is read as soon as a thin event tells of it, and not ten minutes later."""
    customer = stripe.add_customer({"account_id": "acme"})
    async with hearing(tmp_path, stripe) as here:
        await stripe.wait_until(lambda: any(call.path == "/v2/core/events" for call in stripe.calls))
        endpoint = stripe.add_webhook(here.url, kind="thin", secret=SECRET)
        stripe.reject("api_request", "meter_event_customer_not_found", customer=customer)
        await here.bill(record("acme"))
        await stripe.wait_until(lambda: len(stripe.rejected) == 1)
        before = sum(call.path == "/v2/core/events" for call in stripe.calls)
        stripe.clock.advance(11)
        await eventually(here, used=1)
        await stripe.wait_until(lambda: sum(call.path == "/v2/core/events" for call in stripe.calls) > before, 20)
        assert endpoint.kind == "thin"


async def test_the_end_of_a_connection_is_told(tmp_path: Path, stripe: StripeDouble) -> None:
    """An owner who disconnects is believed at once, and a delivery of before the present connection does nothing."""
    path = written(tmp_path, stripe)
    tree = yaml.safe_load(path.read_text())
    tree["exporters"]["stripe_meter"]["webhook"] = {"admin": "admin", "signing_secret": SECRET}
    path.write_text(yaml.safe_dump(tree))
    async with connecting(path) as made:
        here = Hearing(made.exporter, made.admin, f"http://127.0.0.1:{made.admin.address.port}/stripe/webhook")
        assert (await made.visit(stripe.approve(await made.url(), "acct_1"))).status == 200
        assert made.connections()["acct_1"].state == ConnectionState.CONNECTED
        for at, outcome, state in (
            (time.time() - 86_400, "unknown_account", ConnectionState.CONNECTED),
            (time.time() + 10, "used", ConnectionState.DEAUTHORIZED),
        ):
            facts = {"id": "ca_1", "object": "application"}
            body = told("account.application.deauthorized", account="acct_1", created=int(at), data={"object": facts})
            assert await post(here, body, signed(body)) == (200, f"{outcome}\n")
            assert made.connections()["acct_1"].state == state
