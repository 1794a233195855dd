"""What is released by itself when the cause is gone: the clock, the terms of a policy, the customer, the meter."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from billing import CHAT, batch, billing, record, total
from ledgers import Book, book
from old_ledgers import as_version_1
from quarantine_command import nothing_is_wrong

from otel_usageflow.exporters.stripe_meter.rhythm import Rhythm
from otel_usageflow.extensions.sqlite_storage.file import open_for_reading
from otel_usageflow.extensions.sqlite_storage.proof import audit
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Refused
from otel_usageflow.model.usage import Reason, Terms
from otel_usageflow.testing.stripe import StripeDouble

NOON = 1_700_000_000 - 1_700_000_000 % 60
QUICK = Rhythm(release=0.05)
OTHER_FIELD = replace(CHAT, metadata_field="team")
OTHER_EVENT = replace(CHAT, event_name="chat_request")
MENDED = pytest.mark.parametrize("mended", [OTHER_FIELD, OTHER_EVENT, replace(OTHER_EVENT, metadata_field="team")])


def actions(directory: Path) -> list[str]:
    """What the audit log tells of."""
    connection = open_for_reading(directory)
    told = [entry.action for entry in audit.entries(connection) if entry.action in ("released", "refiled")]
    connection.close()
    return told


async def bill_all(open_book: Book, now: float, one_by_one: bool = False) -> list[MeterEvent]:
    """Freeze and accept until nothing is left."""
    done: list[MeterEvent] = []
    while events := [
        *await open_book.freeze(now, one_by_one=one_by_one),
        *await open_book.ledger.take_released(100),
    ]:
        for event in events:
            await open_book.ledger.begin([event], now)
            await open_book.ledger.settle(event, Accepted(), now)
        done += events
    return done


async def held(open_book: Book, quantities: Sequence[int] = (2, 3)) -> list[tuple[bytes, bytes]]:
    """Usage of chat that nobody can be billed for under its terms; the spans."""
    open_book.fields = ("account_id", "team")
    usage = [record(at=NOON + n, quantity=quantity) for n, quantity in enumerate(quantities)]
    await open_book.commit(batch(*usage), NOON + 5)
    await open_book.list_customers({})
    assert await open_book.freeze(NOON + 30) == []
    return [(one.trace_id, one.span_id) for one in usage]


async def have_customer(open_book: Book, terms: Terms) -> None:
    """From now on acme is a customer, by the field that these terms name."""
    from otel_usageflow.ledger.ledger import CustomerChange

    assert terms.metadata_field is not None
    open_book.meters["", terms.event_name] = Formula.SUM
    change = CustomerChange("cus_1", {terms.metadata_field: "acme"})
    await open_book.ledger.apply_customers("", ["account_id", "team"], [change], 2)


@MENDED
async def test_a_mended_policy_bills_what_was_held(tmp_path: Path, mended: Terms) -> None:
    """The same requests and quantities under the present terms, once, however often it is looked at."""
    async with book(tmp_path) as open_book:
        await held(open_book)
        assert await open_book.ledger.releases.refile([CHAT], NOON + 40) == 0
        assert await open_book.ledger.releases.refile([mended], NOON + 40) == 2
        assert await open_book.ledger.releases.refile([mended], NOON + 40) == 0
        await have_customer(open_book, mended)
        events = await bill_all(open_book, NOON + 60)
        assert [(event.event_name, event.value) for event in events] == [(mended.event_name, "5")]
        assert open_book.standings() == {("acme", "billed", None): (2, "5")}
    nothing_is_wrong(tmp_path)
    assert actions(tmp_path) == ["refiled"]


@MENDED
@pytest.mark.parametrize("when", ["before", "after"])
async def test_spans_that_come_again_around_refiling_are_not_billed_twice(
    tmp_path: Path, mended: Terms, when: str
) -> None:
    """A span that comes again under the present terms, or the old ones, is the same request."""
    async with book(tmp_path) as open_book:
        spans = await held(open_book)
        again = [
            record(at=NOON + n, quantity=quantity, terms=terms)._replace(trace_id=trace_id, span_id=span_id)
            for terms in (mended, CHAT)
            for n, (quantity, (trace_id, span_id)) in enumerate(zip((2, 3), spans, strict=True))
        ]
        if when == "before":
            await open_book.commit(batch(*again), NOON + 35)
        await open_book.ledger.releases.refile([mended], NOON + 40)
        await open_book.commit(batch(*again), NOON + 41)
        await have_customer(open_book, mended)
        events = await bill_all(open_book, NOON + 60)
        assert sum(int(event.value) for event in events) == 5
        await open_book.commit(batch(*again), NOON + 70)
        assert await bill_all(open_book, NOON + 90) == []
        assert open_book.standings() == {("acme", "billed", None): (2, "5")}
    nothing_is_wrong(tmp_path)


async def test_there_and_back_again(tmp_path: Path) -> None:
    """A policy that is changed, and changed back, and again: the usage follows, and stays one."""
    async with book(tmp_path) as open_book:
        await held(open_book)
        open_book.meters["", "chat_request"] = Reason.NO_METER
        for terms in (OTHER_EVENT, CHAT, OTHER_EVENT, CHAT):
            assert await open_book.ledger.releases.refile([terms], NOON + 40) == 2
            assert await bill_all(open_book, NOON + 60) == []
        await have_customer(open_book, CHAT)
        (event,) = await bill_all(open_book, NOON + 60)
        assert (event.event_name, event.value) == ("api_request", "5")
        assert open_book.standings() == {("acme", "billed", None): (2, "5")}
    nothing_is_wrong(tmp_path)


async def test_only_the_usage_of_policies_that_changed_is_refiled(tmp_path: Path) -> None:
    """A window holds requests of a policy that was mended and of one that is gone: only the former's go."""
    gone = replace(CHAT, policy="gone")
    async with book(tmp_path) as open_book:
        open_book.fields = ("account_id", "team")
        usage = [record(at=NOON, quantity=2), record(at=NOON + 1, quantity=3, terms=gone)]
        await open_book.commit(batch(*usage), NOON + 5)
        await open_book.list_customers({})
        assert await open_book.freeze(NOON + 30) == []
        assert await open_book.ledger.releases.refile([OTHER_FIELD], NOON + 40) == 1
        await have_customer(open_book, OTHER_FIELD)
        (event,) = await bill_all(open_book, NOON + 60)
        assert event.value == "2"
        assert open_book.standings() == {
            ("acme", "billed", None): (1, "2"),
            ("acme", "quarantined", "no_customer"): (1, "3"),
        }
    nothing_is_wrong(tmp_path)


@pytest.mark.parametrize(
    "present",
    [
        (OTHER_FIELD, replace(CHAT, policy="another")),  # some policy still bills under the old terms
        (replace(OTHER_FIELD, policy="renamed"),),  # whose usage this is, nobody can know
        (OTHER_FIELD, OTHER_EVENT),  # two policies of one name
        (),
    ],
)
async def test_what_is_not_certain_stays(tmp_path: Path, present: tuple[Terms, ...]) -> None:
    """Usage is left where it is unless exactly one place is right for it."""
    async with book(tmp_path) as open_book:
        await held(open_book)
        assert await open_book.ledger.releases.refile(present, NOON + 40) == 0
        assert open_book.standings() == {("acme", "quarantined", "no_customer"): (2, "5")}


async def test_a_record_that_came_back_is_refiled_alone(tmp_path: Path) -> None:
    """Of records that were sent by themselves only the one that came back is put under other terms."""
    async with book(tmp_path, window=1) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(*(record(at=NOON, quantity=q) for q in (4, 7))), NOON)
        by_value = {event.value: event for event in await open_book.freeze(NOON + 1, one_by_one=True)}
        for value, outcome in (("4", Accepted()), ("7", Refused(Reason.NO_METER, "No active meter"))):
            await open_book.ledger.begin([by_value[value]], NOON + 20)
            await open_book.ledger.settle(by_value[value], outcome, NOON + 20)
        assert await open_book.ledger.releases.refile([OTHER_EVENT], NOON + 40) == 1
        open_book.meters["", "chat_request"] = Formula.SUM
        (again,) = await bill_all(open_book, NOON + 60, one_by_one=True)
        assert (again.event_name, again.value) == ("chat_request", "7")
    nothing_is_wrong(tmp_path)


async def test_a_wrong_clock_is_made_good(tmp_path: Path) -> None:
    """What came, or waited, while the clock ran months ahead is billed when it is right again."""
    ahead = NOON + 100 * DAY
    old = record(at=NOON - 36 * DAY)
    async with book(tmp_path) as open_book:
        await open_book.list_customers({"acme": "cus_1"})
        await open_book.commit(batch(record(at=NOON, quantity=2)), NOON)
        await open_book.commit(batch(wrong := record(at=NOON + 1, quantity=3), old), ahead)
        assert await open_book.freeze(ahead) == []
        assert open_book.standings() == {("acme", "quarantined", "too_old"): (3, "6")}
        assert await open_book.ledger.releases.release_young(ahead) == 0
        assert await open_book.ledger.releases.release_young(NOON + 60) == 2
        assert await open_book.ledger.releases.release_young(NOON + 60) == 0
        await open_book.commit(batch(wrong, old), NOON + 60)
        events = await bill_all(open_book, NOON + 90)
        assert sum(int(event.value) for event in events) == 5
        assert open_book.standings() == {
            ("acme", "billed", None): (2, "5"),
            ("acme", "quarantined", "too_old"): (1, "1"),
        }
    nothing_is_wrong(tmp_path)


@pytest.mark.parametrize("mended", [OTHER_FIELD, OTHER_EVENT])
async def test_a_restart_with_a_mended_policy_is_enough(tmp_path: Path, mended: Terms) -> None:
    """The whole way: usage is held, the service starts with other terms, and Stripe counts it."""
    async with StripeDouble() as stripe:
        known = stripe.add_customer({"account_id": "other"})
        if mended is OTHER_FIELD:
            stripe.add_meter("api_request")
            customer = stripe.add_customer({"team": "acme"})
        else:
            customer = stripe.add_customer({"account_id": "acme"})
        usage = record(quantity=4)
        async with billing(tmp_path, stripe, rhythm=QUICK) as running:
            await running.bill(usage, record("other"))
            if mended is OTHER_FIELD:
                await stripe.wait_until(lambda: total(stripe, known) == 1)
        stripe.add_meter("chat_request")
        async with billing(tmp_path, stripe, (mended,), rhythm=QUICK) as running:
            await stripe.wait_until(lambda: total(stripe, customer, mended.event_name) == 4, timeout=20)
            await running.bill(usage._replace(terms=mended))
            await running.bill(record("acme", terms=mended))
            await stripe.wait_until(lambda: total(stripe, customer, mended.event_name) == 5, timeout=20)
    nothing_is_wrong(tmp_path)


async def test_a_part_that_was_refused_goes_when_its_meter_is_there(tmp_path: Path) -> None:
    """Of an amount told in parts one was counted and one met an inactive meter: that is sent by itself later."""
    amount = 123_456_789_012_345_678
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with book(tmp_path) as open_book:
            now = time.time()
            await open_book.list_customers({"acme": customer})
            await open_book.commit(batch(record(at=now - 120, quantity=amount)), now)
            first, second = await open_book.freeze(now)
            for event, outcome in ((first, Accepted()), (second, Refused(Reason.NO_METER, "No active meter"))):
                await open_book.ledger.begin([event], now - 900)
                await open_book.ledger.settle(event, outcome, now - 900)
            wanting = await open_book.ledger.releases.wanting(now, 600)
            assert [(one.reason, one.listed) for one in wanting] == [(Reason.NO_METER, True)]
            assert await open_book.ledger.releases.wanting(now, 1_000) == []
            assert await open_book.ledger.releases.release_wanting(wanting[0], now, 600) == 1
            (again,) = await open_book.ledger.take_released(10)
            assert (again.value, again.identifier) == (second.value, f"{second.identifier}_r1")
    assert actions(tmp_path) == ["released"]


@pytest.mark.parametrize("missing", ["customer", "meter"])
async def test_single_records_wait_for_their_customer_and_their_meter(tmp_path: Path, missing: str) -> None:
    """With `window: 0s`, too, usage is billed by itself when the customer or the meter appears."""
    async with StripeDouble() as stripe:
        if missing == "customer":
            stripe.add_meter("api_request")
            probe = stripe.add_customer({"account_id": "probe"})
        else:
            customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, aggregation={"window": "0s"}, rhythm=QUICK) as running:
            await running.bill(record(quantity=2), record(quantity=3), record("probe"))
            if missing == "customer":
                await stripe.wait_until(lambda: total(stripe, probe) == 1)
                customer = stripe.add_customer({"account_id": "acme"})
            else:
                await stripe.wait_until(lambda: any(call.path == "/v1/customers" for call in stripe.calls))
                stripe.add_meter("api_request")
            await stripe.wait_until(lambda: total(stripe, customer) == 5, timeout=20)
    nothing_is_wrong(tmp_path)


@pytest.mark.parametrize("cause", ["customer", "policy"])
async def test_usage_that_was_held_before_an_upgrade(tmp_path: Path, cause: str) -> None:
    """What an older version has held is released like any other when its cause is gone."""
    async with book(tmp_path) as open_book:
        await held(open_book)
    as_version_1(tmp_path / "ledger.db")
    terms = CHAT if cause == "customer" else OTHER_EVENT
    async with book(tmp_path) as open_book:
        open_book.fields = ("account_id", "team")
        assert await open_book.ledger.releases.refile([terms], NOON + 40) == (0 if cause == "customer" else 2)
        await have_customer(open_book, terms)
        (event,) = await bill_all(open_book, NOON + 60)
        assert (event.event_name, event.value) == (terms.event_name, "5")
    nothing_is_wrong(tmp_path)
