"""The exporter against the double: usage is billed once, whatever Stripe answers."""

from decimal import Decimal
from pathlib import Path

import pytest
from billing import CHAT, batch, billing, record, total

from otel_usageflow.errors import StartError
from otel_usageflow.model.usage import Terms
from otel_usageflow.testing.stripe import Fault, StripeDouble

EVENTS = "/v1/billing/meter_events"


async def test_usage_becomes_a_meter_event(tmp_path: Path) -> None:
    """A record of a known user is billed to that customer, with the moment of its span."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        usage = record()
        async with billing(tmp_path, stripe) as running:
            await running.bill(usage)
            await stripe.wait_until(lambda: len(stripe.accepted) == 1)
        assert total(stripe, customer) == 1
        assert stripe.accepted[0].timestamp == usage.at_ns // 10**9


async def test_the_same_span_is_billed_once(tmp_path: Path) -> None:
    """A span that comes three times, also after a restart, is one charge."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        first, second = record(quantity=2), record(quantity=3)
        async with billing(tmp_path, stripe) as running:
            await running.bill(first)
            await running.bill(first, second)
            await stripe.wait_until(lambda: total(stripe, customer) == 5)
        async with billing(tmp_path, stripe) as running:
            await running.bill(second, first, third := record(quantity=1))
            await running.bill(third)
            await stripe.wait_until(lambda: total(stripe, customer) == 6)
        assert stripe.violations == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault.RESET_BEFORE,
        Fault.RESET_AFTER,
        Fault.ERROR_BEFORE,
        Fault.ERROR_STORED,
        Fault.ERROR_AFTER,
        Fault.UNAVAILABLE,
        Fault.RATE_LIMITED,
        Fault.LOCK_TIMEOUT,
        Fault.MALFORMED,
        Fault.HANG,
        Fault.HANG_AFTER,
    ],
)
async def test_a_failure_neither_loses_nor_doubles(tmp_path: Path, fault: Fault) -> None:
    """Whatever goes wrong with a call, the usage is counted exactly once in the end."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        stripe.fault(EVENTS, fault, times=2)
        async with billing(tmp_path, stripe, timeout="500ms") as running:
            await running.bill(record(quantity=7), record(quantity=Decimal("0.25")))
            await stripe.wait_until(lambda: total(stripe, customer) > 0, timeout=20)
            await running.bill(last := record("acme", quantity=1))
            await stripe.wait_until(lambda: total(stripe, customer) >= Decimal("8.25"), timeout=20)
        assert total(stripe, customer) == Decimal("8.25"), last
        assert stripe.violations == []


async def test_usage_waits_for_its_customer(tmp_path: Path) -> None:
    """Usage of a user without a customer is kept, and billed by itself once the customer exists."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        known = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe) as running:
            await running.bill(record("newcomer", quantity=4), record("acme"))
            await stripe.wait_until(lambda: total(stripe, known) == 1)
            late = stripe.add_customer({"account_id": "newcomer"})
            await stripe.wait_until(lambda: total(stripe, late) == 4, timeout=20)


async def test_nobody_is_billed_when_two_customers_have_the_value(tmp_path: Path) -> None:
    """An ambiguous user waits until one customer is left, and is billed then."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        first = stripe.add_customer({"account_id": "twin"})
        second = stripe.add_customer({"account_id": "twin"})
        known = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe) as running:
            await running.bill(record("twin", quantity=3), record("acme"))
            await stripe.wait_until(lambda: total(stripe, known) == 1)
            assert total(stripe, first) == total(stripe, second) == 0
            stripe.update_customer(second, {"account_id": ""})
            await stripe.wait_until(lambda: total(stripe, first) == 3, timeout=20)
        assert total(stripe, second) == 0


async def test_usage_waits_for_its_meter(tmp_path: Path) -> None:
    """Usage of an event name without a meter is kept, and billed by itself once the meter exists."""
    async with StripeDouble() as stripe:
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe) as running:
            await running.bill(record(quantity=2))
            await stripe.wait_until(lambda: any(call.path == "/v1/customers" for call in stripe.calls))
            stripe.add_meter("api_request")
            await stripe.wait_until(lambda: total(stripe, customer) == 2, timeout=20)


async def test_a_meter_that_is_switched_off_loses_nothing(tmp_path: Path) -> None:
    """A refusal because of an inactive meter holds the usage until the meter is active again."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe) as running:
            await running.bill(record(quantity=2))
            await stripe.wait_until(lambda: total(stripe, customer) == 2)
            stripe.deactivate_meter("api_request")
            await running.bill(record(quantity=3))
            await stripe.wait_until(lambda: any(call.status == 400 for call in stripe.calls))
            stripe.reactivate_meter("api_request")
            await stripe.wait_until(lambda: total(stripe, customer) == 5, timeout=20)


async def test_stripe_may_be_down_at_the_start(tmp_path: Path) -> None:
    """Usage is taken while Stripe is away, survives a restart, and is billed when Stripe is back."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        with stripe.outage():
            async with billing(tmp_path, stripe) as running:
                await running.bill(record(quantity=2))
            async with billing(tmp_path, stripe) as running:
                await running.bill(record(quantity=3))
        async with billing(tmp_path, stripe):
            await stripe.wait_until(lambda: total(stripe, customer) == 5, timeout=20)


async def test_count_meters_get_one_event_a_record(tmp_path: Path) -> None:
    """A meter that counts events gets one for each request."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", formula="count")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe) as running:
            await running.bill(*(record() for _ in range(5)))
            await stripe.wait_until(lambda: total(stripe, customer) == 5)
        assert len(stripe.accepted) == 5


async def test_last_meters_get_the_last_value(tmp_path: Path) -> None:
    """A meter that keeps the last value gets the one whose span ended last."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", formula="last")
        customer = stripe.add_customer({"account_id": "acme"})
        early, late = record(quantity=9), record(quantity=4)
        async with billing(tmp_path, stripe) as running:
            await running.bill(late, early)
            await stripe.wait_until(lambda: total(stripe, customer) == 4)


async def test_window_0s_sends_each_record_by_itself(tmp_path: Path) -> None:
    """With `window: 0s` nothing is summed."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        usage = [record(quantity=n) for n in (1, 2, 3, 0)]
        async with billing(tmp_path, stripe, aggregation={"window": "0s"}) as running:
            await running.bill(*usage)
            await stripe.wait_until(lambda: total(stripe, customer) == 6)
        assert sorted(event.value for event in stripe.accepted) == [1, 2, 3]
        assert stripe.violations == []


async def test_a_meter_that_cannot_be_fed_is_refused_at_the_start(tmp_path: Path) -> None:
    """A meter that keeps only the last event of a day would lose usage: the start fails, naming it."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", event_time_window="day")
        with pytest.raises(StartError, match=r"api_request.*event_time_window.*create a meter"):
            async with billing(tmp_path, stripe):
                pass


async def test_a_counting_meter_cannot_bill_other_quantities(tmp_path: Path) -> None:
    """A meter that counts events ignores how much each says: the start fails, naming it and the remedy."""
    tokens = Terms(policy="tokens", event_name="api_request", metadata_field="account_id", quantity=None)
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request", formula="count")
        with pytest.raises(StartError, match=r"counts events.*aggregates by sum"):
            async with billing(tmp_path, stripe, (tokens,)):
                pass


async def test_customer_ids_need_no_directory(tmp_path: Path) -> None:
    """Under `customer: {id: true}` the user is the customer, and no customer is read."""
    direct = Terms(policy="direct", event_name="api_request", metadata_field=None)
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer()
        async with billing(tmp_path, stripe, (direct,)) as running:
            await running.bill(record(customer, terms=direct))
            await stripe.wait_until(lambda: total(stripe, customer) == 1)
        assert not any(call.path.startswith("/v1/customers") for call in stripe.calls)


async def test_two_users_of_one_customer_share_its_lane(tmp_path: Path) -> None:
    """Stripe takes one call at a time for a customer and a meter, however many users lead to it."""
    by_team = Terms(policy="team", event_name="api_request", metadata_field="team")
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme", "team": "red"})
        async with billing(tmp_path, stripe, (CHAT, by_team), aggregation={"window": "0s"}) as running:
            for _ in range(10):
                await running.bill(record("acme"), record("red", terms=by_team))
            await stripe.wait_until(lambda: total(stripe, customer) == 20)
        assert stripe.violations == []


async def test_payload_keys_are_sent_and_kept_apart(tmp_path: Path) -> None:
    """Records with different further keys are different meter events."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe) as running:
            await running.bill(
                record(payload=(("model", "large"),)), record(payload=(("model", "small"),), quantity=2)
            )
            await stripe.wait_until(lambda: total(stripe, customer) == 3)
        assert {(e.payload["model"], e.value) for e in stripe.accepted} == {("large", 1), ("small", 2)}


async def test_a_revoked_key_keeps_the_queue(tmp_path: Path) -> None:
    """With a key that Stripe does not know nothing is lost: the right key bills it after a restart."""
    async with StripeDouble("sk_test_right") as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, api_key="sk_test_wrong") as running:
            await running.bill(record(quantity=2))
            await stripe.wait_until(lambda: any(call.status == 401 for call in stripe.calls))
        async with billing(tmp_path, stripe):
            await stripe.wait_until(lambda: total(stripe, customer) == 2)


async def test_many_digits_are_split_not_lost(tmp_path: Path) -> None:
    """A sum with more digits than Stripe takes is sent in parts that add up to it."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        long = Decimal("123456789012.123456789")
        async with billing(tmp_path, stripe) as running:
            await running.bill(record(quantity=long))
            await stripe.wait_until(lambda: total(stripe, customer) == long)


async def test_usage_of_a_policy_that_is_gone_is_still_billed(tmp_path: Path) -> None:
    """What was acknowledged under an earlier configuration is billed, whatever the policies say now."""
    by_team = Terms(policy="team", event_name="by_team", metadata_field="team", account="acct_1")
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        stripe.add_meter("by_team", account="acct_1")
        customer = stripe.add_customer({"team": "red"}, account="acct_1")
        with stripe.outage():
            async with billing(tmp_path, stripe, (by_team,)) as running:
                await running.bill(record("red", terms=by_team, quantity=6))
        async with billing(tmp_path, stripe, (CHAT,)):
            await stripe.wait_until(lambda: stripe.total("by_team", customer, account="acct_1") == 6)


async def test_nothing_is_exported_from_an_empty_batch(tmp_path: Path) -> None:
    """A batch without usage touches neither the ledger nor Stripe."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        async with billing(tmp_path, stripe) as running:
            await running.exporter.export(batch())
        assert stripe.accepted == []
