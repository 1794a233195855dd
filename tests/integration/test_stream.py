"""The stream against the double: the same usage, the same identifiers, in few calls, and billed once all the same."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from billing import CHAT, billing, record, total
from looking_back import states
from structlog.testing import capture_logs

from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.testing.stripe import Fault, StripeDouble

STREAM = "/v2/billing/meter_event_stream"
SESSION = "/v2/billing/meter_event_session"
V1 = "/v1/billing/meter_events"
ON: dict[str, Any] = {"api": "v2_stream"}


def batches(directory: Path) -> list[list[int]]:
    """The event ids of each call of the stream that began, in order."""
    with closing(open_for_reading(directory)) as connection:
        return [json.loads(text) for (text,) in connection.execute("SELECT events FROM stream_batches ORDER BY 1")]


def calls(stripe: StripeDouble, path: str, status: int | None = None) -> int:
    """How many calls there were to a path, maybe with one status."""
    return sum(call.path == path and status in (None, call.status) for call in stripe.calls)


def users(stripe: StripeDouble, count: int) -> list[str]:
    """Customers of `user-0` and so on."""
    stripe.add_meter("api_request")
    return [stripe.add_customer({"account_id": f"user-{number}"}) for number in range(count)]


def _files(directory: Path) -> bytes:
    """All that is on the disk."""
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    """What was logged."""
    with capture_logs() as entries:
        yield entries  # type: ignore[misc]


async def test_many_customers_are_billed_in_few_calls(tmp_path: Path) -> None:
    """No call has more than 100 events, or two of one customer; each event is in one call, and all of v1's facts."""
    async with StripeDouble() as stripe:
        customers = users(stripe, 250)
        async with billing(tmp_path, stripe, **ON) as running:
            usage = [record(f"user-{n}", quantity=n + 1, payload=(("model", "m"),)) for n in range(250)]
            await running.bill(*usage)
            await stripe.wait_until(lambda: len(stripe.accepted) == 250, timeout=20)
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 250)
        sent = batches(tmp_path)
        assert max(map(len, sent)) <= 100
        assert Counter(event for batch in sent for event in batch) == dict.fromkeys(range(1, 251), 1)
        assert calls(stripe, STREAM) == len(sent) <= 6
        assert calls(stripe, SESSION) == 1
        assert calls(stripe, V1) == 0
        assert [total(stripe, customer) for customer in customers] == list(range(1, 251))
        one = stripe.accepted[0]
        assert one.timestamp == usage[0].at_ns // 10**9
        assert one.extra == {"model": "m"}
        assert all(event.idempotency_key and event.idempotency_key.startswith("uf_b") for event in stripe.accepted)


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
        Fault.MALFORMED,
        Fault.HANG,
        Fault.HANG_AFTER,
    ],
)
@pytest.mark.parametrize("path", [STREAM, SESSION])
async def test_a_failure_of_a_call_neither_loses_nor_doubles(tmp_path: Path, fault: Fault, path: str) -> None:
    """Whatever goes wrong with a batch or with its session, each event of it is counted exactly once in the end."""
    async with StripeDouble() as stripe:
        customers = users(stripe, 5)
        stripe.fault(path, fault, times=2)
        async with billing(tmp_path, stripe, timeout="500ms", **ON) as running:
            await running.bill(*(record(f"user-{n}", quantity=Decimal("7.25")) for n in range(5)))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 5, timeout=20)
            await running.bill(*(record(f"user-{n}", quantity=1) for n in range(5)))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 10, timeout=20)
        assert [total(stripe, customer) for customer in customers] == [Decimal("8.25")] * 5
        assert len(stripe.accepted) == 10


async def test_a_session_is_renewed_before_it_ends(tmp_path: Path) -> None:
    """At 80 % of its life another is made; no call meets a session that has ended."""
    async with StripeDouble() as stripe:
        stripe.settings.session_life = 2
        (customer,) = users(stripe, 1)
        async with billing(tmp_path, stripe, **ON) as running:
            while calls(stripe, SESSION) < 3:
                before = total(stripe, customer)
                await running.bill(record("user-0"))
                await stripe.wait_until(lambda before=before: total(stripe, customer) > before)  # type: ignore[misc]
        assert calls(stripe, STREAM, 401) == 0


async def test_a_session_that_ended_is_renewed_once_and_its_call_made_again(tmp_path: Path) -> None:
    """That call was not processed: it is made again at once with another session, and nothing is uncertain."""
    async with StripeDouble() as stripe:
        (customer,) = users(stripe, 1)
        async with billing(tmp_path, stripe, retry_on_failure={"initial_interval": "60s"}, **ON) as running:
            await running.bill(record("user-0"))
            await stripe.wait_until(lambda: total(stripe, customer) == 1)
            stripe.sessions.expire_all()
            await running.bill(record("user-0"))
            await stripe.wait_until(lambda: total(stripe, customer) == 2)
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 2)
        assert (calls(stripe, SESSION), calls(stripe, STREAM, 401)) == (2, 1)


async def test_one_bad_event_is_found_and_the_others_are_billed(tmp_path: Path) -> None:
    """A batch that is refused as a whole is sent event by event: the bad one is kept with Stripe's words."""
    async with StripeDouble() as stripe:
        customers = users(stripe, 6)
        async with billing(tmp_path, stripe, **ON) as running:
            await running.bill(*(record(f"user-{n}") for n in range(6)))
            await stripe.wait_until(lambda: len(stripe.accepted) == 6)
            long = record("user-3", payload=(("note", "x" * 101),))  # which the double takes in no payload
            await running.bill(*(record(f"user-{n}") for n in range(6) if n != 3), long)
            await stripe.wait_until(lambda: len(stripe.accepted) == 11, timeout=20)
            await stripe.wait_until(lambda: sorted(states(tmp_path)) == ["ACCEPTED"] * 11 + ["REFUSED"])
        assert [total(stripe, customer) for customer in customers] == [2, 2, 2, 1, 2, 2]
        assert calls(stripe, STREAM, 400) == 2


async def test_usage_stays_where_there_is_no_stream(tmp_path: Path, logs: list[dict[str, object]]) -> None:
    """A Stripe that refuses the session or the stream keeps all usage here, and the log says `api: v1`."""
    permissions = {"rk_test_a": {"billing_meter_read", "customer_read", "event_read"}}
    async with StripeDouble("rk_test_a", permissions=permissions) as stripe:
        (customer,) = users(stripe, 1)
        async with billing(tmp_path, stripe, **ON) as running:
            await running.bill(record("user-0", quantity=5))
            await stripe.wait_until(lambda: calls(stripe, SESSION, 403) >= 2)
        assert total(stripe, customer) == 0
        assert states(tmp_path) == ["FROZEN"]
        (told, *_) = [entry for entry in logs if entry["event"] == "stripe_refuses_us"]
        assert "api: v1" in str(told["remedy"])


async def test_the_token_is_in_no_file_and_no_log(tmp_path: Path, logs: list[dict[str, object]]) -> None:
    """A session's token acts for the account, and is kept in memory only."""
    async with StripeDouble() as stripe:
        users(stripe, 1)
        async with billing(tmp_path, stripe, **ON) as running:
            stripe.fault(STREAM, Fault.UNAVAILABLE, times=1)
            await running.bill(record("user-0"))
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"])
            tokens = list(stripe.sessions._open)
            assert tokens
            files = _files(tmp_path)
        assert not any(token.encode() in files or token in repr(logs) for token in tokens)


@pytest.mark.parametrize("fault", [Fault.HANG_AFTER, Fault.HANG, Fault.RESET_AFTER])
@pytest.mark.parametrize(("first", "then"), [("v1", "v2_stream"), ("v2_stream", "v1")])
async def test_switching_with_events_under_way_bills_once(
    tmp_path: Path, fault: Fault, first: str, then: str
) -> None:
    """What has no answer yet goes once more by the way it went, so that nothing rests on one memory for both ways."""
    paths = {"v1": V1, "v2_stream": STREAM}
    async with StripeDouble() as stripe:
        customers = users(stripe, 3)
        struck = stripe.fault(paths[first], fault, times=None)
        async with billing(tmp_path, stripe, api=first, timeout="300ms") as running:
            await running.bill(*(record(f"user-{n}", quantity=2) for n in range(3)))
            await stripe.wait_until(lambda: states(tmp_path) == ["SENDING"] * 3)
            await stripe.wait_until(lambda: struck.fired >= 3)
        stripe.clear_faults()
        before = calls(stripe, paths[then])
        async with billing(tmp_path, stripe, api=then) as running:
            await stripe.wait_until(lambda: states(tmp_path) == ["ACCEPTED"] * 3)
            assert calls(stripe, paths[then]) == before
            await running.bill(*(record(f"user-{n}") for n in range(3)))
            await stripe.wait_until(lambda: len(stripe.accepted) == 6)
            assert calls(stripe, paths[then]) > before
        assert [total(stripe, customer) for customer in customers] == [3] * 3


async def test_what_is_uncertain_where_the_stream_is_gone_is_left_to_the_summaries(tmp_path: Path) -> None:
    """Under `api: v1` with a session that is refused, an event of unknown outcome is set aside, not sent by v1."""
    permissions = {"rk_test_b": {"billing_meter_read", "customer_read", "event_read"}}
    async with StripeDouble(["sk_test_b", "rk_test_b"], permissions=permissions) as stripe:
        (customer,) = users(stripe, 1)
        stripe.fault(STREAM, Fault.HANG_AFTER, times=None)
        async with billing(tmp_path, stripe, timeout="300ms", **ON) as running:
            await running.bill(record("user-0", quantity=2))
            await stripe.wait_until(lambda: total(stripe, customer) == 2)
            await stripe.wait_until(lambda: states(tmp_path) == ["SENDING"])
        async with billing(tmp_path, stripe, api="v1", api_key="rk_test_b"):
            await stripe.wait_until(lambda: states(tmp_path) == ["UNKNOWN"])
        assert calls(stripe, V1) == 0


async def test_accounts_have_sessions_and_batches_of_their_own(tmp_path: Path) -> None:
    """A connected account's session is made in its name, and its token is never used for another's events."""
    there = replace(CHAT, account="acct_2")
    async with StripeDouble() as stripe:
        users(stripe, 1)
        stripe.add_meter("api_request", account="acct_2")
        customer = stripe.add_customer({"account_id": "user-0"}, account="acct_2")
        async with billing(tmp_path, stripe, (CHAT, there), **ON) as running:
            await running.bill(record("user-0", quantity=1), record("user-0", quantity=2, terms=there))
            await stripe.wait_until(lambda: len(stripe.accepted) == 2)
        assert stripe.total("api_request", customer, account="acct_2") == 2
        assert calls(stripe, SESSION) == 2
        assert sorted(map(len, batches(tmp_path))) == [1, 1]
