"""Pacing against the double with its limits on: no call is ever one too many, and fresh usage passes a backlog."""

import time
from pathlib import Path
from typing import Any

import pytest
from billing import batch, billing, record
from ledgers import Book, book

from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.model.outcome import TooFast
from otel_usageflow.testing.stripe import Fault, RateLimits, Settings, StripeDouble

LIVE, TEST = "sk_live_double", "sk_test_double"
CONNECTED = "acct_1"


def _refused(stripe: StripeDouble) -> int:
    return sum(call.status == 429 for call in stripe.calls)


def _stripe(key: str, users: int, account: str | None = None) -> StripeDouble:
    limits = RateLimits() if "_live_" in key else RateLimits.sandbox()
    stripe = StripeDouble([key], settings=Settings(limits=limits))
    stripe.add_meter("api_request", account=account)
    for number in range(users):
        stripe.add_customer({"account_id": f"u{number}"}, account=account)
    return stripe


@pytest.mark.parametrize(
    ("key", "account", "users"), [(LIVE, None, 600), (LIVE, CONNECTED, 150), (TEST, None, 60), (TEST, CONNECTED, 60)]
)
async def test_no_call_is_one_too_many(tmp_path: Path, key: str, account: str | None, users: int) -> None:
    """Live, for a connected account and in a sandbox, more usage than a second's worth is sent without a 429."""
    async with _stripe(key, users, account) as stripe:
        own: dict[str, Any] = {} if account is None else {"account": account}
        async with billing(tmp_path, stripe, calls_per_second=None, **own) as bill:
            await bill.bill(*(record(f"u{number}", at=time.time() - 5) for number in range(users)))
            await stripe.wait_until(lambda: len(stripe.accepted) == users, 30)
            assert bill.exporter._paces.of(account or "").refusals == {}
        assert _refused(stripe) == 0
        assert stripe.violations == []


@pytest.mark.parametrize(("key", "users"), [(LIVE, 2_000), (TEST, 500)])
async def test_no_batch_is_one_too_many(tmp_path: Path, key: str, users: int) -> None:
    """The same of the stream, whose calls count as basic in a sandbox."""
    async with _stripe(key, users) as stripe:
        async with billing(tmp_path, stripe, calls_per_second=None, api="v2_stream") as bill:
            await bill.bill(*(record(f"u{number}", at=time.time() - 5) for number in range(users)))
            await stripe.wait_until(lambda: len(stripe.accepted) == users, 40)
        assert _refused(stripe) == 0
        assert stripe.violations == []


async def test_a_listing_and_sends_share_what_a_sandbox_gives(tmp_path: Path) -> None:
    """Reads do not wait until all is sent, nor sends until all is read; together they stay below 25 a second."""
    async with _stripe(TEST, 60) as stripe:
        async with billing(tmp_path, stripe, calls_per_second=None) as bill:
            await bill.bill(*(record(f"u{number}", at=time.time() - 5) for number in range(60)))
            api = bill.exporter._api
            assert api is not None
            await stripe.wait_until(lambda: bool(stripe.accepted))
            for _ in range(8):
                await api.meters("")
            assert len(stripe.accepted) < 60
            await stripe.wait_until(lambda: len(stripe.accepted) == 60, 30)
        assert _refused(stripe) == 0


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.LOCK_TIMEOUT])
async def test_a_refusal_is_learned_from_and_loses_nothing(tmp_path: Path, fault: Fault) -> None:
    """A 429 about everything slows the account down; one about a lock slows nobody. Each event is counted once."""
    async with _stripe(LIVE, 20) as stripe:
        rule = stripe.fault("/v1/billing/meter_events", fault, times=3)
        async with billing(tmp_path, stripe, calls_per_second=None) as bill:
            await bill.bill(*(record(f"u{number}", at=time.time() - 5) for number in range(20)))
            await stripe.wait_until(lambda: len(stripe.accepted) == 20, 30)
            pace = bill.exporter._paces.of("")
        assert rule.fired == 3
        assert pace.refusals == {TooFast.GLOBAL_RATE if fault is Fault.RATE_LIMITED else TooFast.RESOURCE: 3}
        assert (pace._basic._rate < 85) is (fault is Fault.RATE_LIMITED)
        assert pace.rate == 850


async def test_a_refused_read_slows_reads_only(tmp_path: Path) -> None:
    """What Stripe says of a read is learned, too, and sends go on as before."""
    async with _stripe(LIVE, 1) as stripe, billing(tmp_path, stripe, calls_per_second=None) as bill:
        api = bill.exporter._api
        assert api is not None
        stripe.fault("/v1/billing/meters", Fault.RATE_LIMITED, times=1)
        with pytest.raises(StripeFailure):
            await api.meters("")
        pace = bill.exporter._paces.of("")
        assert pace.refusals == {TooFast.GLOBAL_RATE: 1}
        assert (pace._basic._rate, pace.rate) == (42.5, 850)


async def test_reads_are_counted_as_stripe_counts_them(tmp_path: Path) -> None:
    """Every GET counts against the allocation, and nothing else does."""
    async with _stripe(LIVE, 3) as stripe:
        async with billing(tmp_path, stripe, calls_per_second=None) as bill:
            await bill.bill(record("u1", at=time.time() - 5))
            await stripe.wait_until(lambda: len(stripe.accepted) == 1)
            reads = bill.exporter._paces.of("").reads
        assert 0 < reads <= stripe.reads()
        assert stripe.reads() == sum(call.method == "GET" for call in stripe.calls)


async def _backlog(open_book: Book, customers: list[str], *, frozen: bool) -> None:
    """Forty minutes of usage of every customer, an hour ago; a minute is an event."""
    await open_book.list_customers({f"u{number}": customer for number, customer in enumerate(customers)})
    old = int(time.time()) // 60 * 60 - 3_600
    for minute in range(40):
        ended = old + 60 * minute
        await open_book.commit(batch(*(record(f"u{n}", at=ended) for n in range(len(customers)))), time.time())
    while frozen and await open_book.freeze(time.time()):
        pass


@pytest.mark.parametrize("frozen", [True, False])
async def test_fresh_usage_does_not_wait_for_a_backlog(tmp_path: Path, frozen: bool) -> None:
    """Behind 2,000 events of the same customers, 50 seconds' worth, new usage of each is sent within seconds."""
    async with StripeDouble([TEST], settings=Settings(limits=RateLimits.off())) as stripe:
        stripe.add_meter("api_request")
        customers = [stripe.add_customer({"account_id": f"u{number}"}) for number in range(50)]
        async with book(tmp_path) as open_book:
            await _backlog(open_book, customers, frozen=frozen)
        async with billing(tmp_path, stripe, calls_per_second=40) as bill:
            await stripe.wait_until(lambda: len(stripe.accepted) > 50)
            began = time.time()
            await bill.bill(*(record(f"u{user}", at=began) for user in range(50)))

            def all_fresh() -> bool:
                return {e.customer for e in stripe.accepted if e.timestamp >= int(began)} == set(customers)

            await stripe.wait_until(all_fresh, timeout=12)
            assert len(stripe.accepted) < 1_000
        assert stripe.violations == []
