"""The ledger against a small model of it: whatever happens in whatever order, every charge stands at one point."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from billing import batch, record
from counting import Receiver
from days import counted_by_day, kept_by_day
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledgers import METER, Book, book
from pruning import prune, pruned_to

from otel_usageflow.delivery.attempts import too_old_to_resend
from otel_usageflow.extensions.sqlite_storage.doubt import verdicts
from otel_usageflow.extensions.sqlite_storage.file import LEDGER, open_for_commands, open_for_reading, transaction
from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.proof.verify import verify
from otel_usageflow.extensions.sqlite_storage.quarantine.decisions import Who
from otel_usageflow.extensions.sqlite_storage.quarantine.entries import pages
from otel_usageflow.extensions.sqlite_storage.quarantine.release import discard, release
from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.ledger.quarantine import Decided, Entry, Filters
from otel_usageflow.ledger.report import Standing
from otel_usageflow.ledger.states import EventState
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Halted, Outcome, Refused, Retry, TooFast
from otel_usageflow.model.usage import Reason, UnflaggedSpan, UsageBatch, UsageRecord

USERS = ("acme", "beta")
FIELDS = ["account_id"]
NOON = 1_700_000_000 - 1_700_000_000 % 60
LENGTHS = st.sampled_from([10, 1, 7, 60])
OUTCOMES = st.sampled_from(
    [
        Accepted(),
        Accepted(),
        Retry("reset", uncertain=True, everyone=True),
        Retry("replayed", uncertain=True, new_key=True),
        Retry("limited", too_fast=TooFast.GLOBAL_RATE),
        Halted("key", "look"),
        Refused(Reason.NO_CUSTOMER, "no such customer"),
        Refused(Reason.NO_METER, "no active meter"),
        Refused(Reason.REJECTED, "bad"),
        Refused(Reason.REJECTED, "do not retry", uncertain=True),
    ]
)
FILTERS = st.sampled_from([Filters(), Filters(reasons=(Reason.REJECTED,)), Filters(user="acme")])
OPS = Who("ops", "as the model has it")
SURE = (Standing.BILLED,)
PERHAPS = (Standing.BILLED, Standing.SENDING, Standing.UNKNOWN, Standing.QUARANTINED)


class LedgerModel(RuleBasedStateMachine):
    """Drives a real ledger; knows only what was committed, what was counted, and who is a customer."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.now = float(NOON)
        self.stripe = Receiver()
        self.requests: Counter[str] = Counter()
        self.committed: Counter[str] = Counter()
        self.sent: list[UsageRecord] = []
        self.customers: dict[str, set[str]] = {user: set() for user in USERS}
        self.meter: Formula | Reason | None = None
        self.in_flight: list[MeterEvent] = []
        self.children: list[tuple[UsageRecord, UnflaggedSpan]] = []
        self.pruned_to = 0

    @initialize(formula=st.sampled_from([Formula.SUM, Formula.SUM, Formula.COUNT]), length=LENGTHS)
    def open_first(self, formula: Formula, length: int) -> None:
        """Start with an empty ledger and a complete directory."""
        self.formula = self.meter = formula
        self._open(length)
        self._run(self.book.list_customers({}))
        for user in USERS:
            self.customer_changes(user, 1, True)

    def teardown(self) -> None:
        """Whatever happened, the ledger verifies: file, audit log, seals, conservation and totals."""
        with closing(open_for_reading(self.directory)) as connection:
            found = verify(connection, self.directory / LEDGER, None, lambda _what, _done, _all: None)
        self._close()
        self.runner.close()
        shutil.rmtree(self.directory)
        assert found.ok, found.findings

    # What happens

    @rule(
        users=st.lists(st.sampled_from(USERS), min_size=1, max_size=4),
        quantity=st.integers(0, 9),
        ago=st.sampled_from([0, 0, 1, 30, 61]),
    )
    def commit(self, users: list[str], quantity: int, ago: int) -> None:
        """New usage."""
        quantity = 1 if self.formula is Formula.COUNT else quantity
        self._commit([record(user, quantity=quantity, at=self.now - ago) for user in users])

    @rule()
    def commit_too_old(self) -> None:
        """Usage that Stripe would not take any more."""
        self._commit([record(at=self.now - 36 * DAY)])

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def commit_again(self, data: st.DataObject) -> None:
        """Usage that was taken before."""
        again = data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=5))
        assert self._run(self.book.ledger.commit(batch(*again), self.now)).billed == 0

    @rule(user=st.sampled_from(USERS))
    def commit_child(self, user: str) -> None:
        """The inner span of a request, before anybody knows that it is one."""
        child = record(user, at=self.now)
        parent = (10**6 + int.from_bytes(child.span_id)).to_bytes(8, "big")
        span = UnflaggedSpan(child.trace_id, child.span_id, parent, "shop", child.ended_ns)
        self._run(self.book.commit(UsageBatch([child], [span]), self.now))
        self._took([child])
        self.children.append((child, span))

    @precondition(lambda self: self.children)
    @rule()
    def commit_parent(self) -> None:
        """The outer span: it takes the place of the inner one, or, if that is frozen, is not billed besides."""
        child, span = self.children.pop()
        before = sum(self._report(child.user, None)[0].values())
        parent = child._replace(span_id=span.parent_span_id, quantity=1)
        spans = [UnflaggedSpan(parent.trace_id, parent.span_id, b"", "shop", parent.ended_ns)]
        self._run(self.book.commit(UsageBatch([parent], spans), self.now))
        assert sum(self._report(child.user, None)[0].values()) == before

    @rule(max_window=st.sampled_from([10, 60]))
    def freeze(self, max_window: int) -> None:
        """Due windows become events; lanes with an event that is not settled are busy."""
        busy = {event.lane for event in self._unsettled()} | {event.lane for event in self.in_flight}
        self.book.meters = {} if self.meter is None else {METER: self.meter}
        frozen = self._run(
            self.book.freeze(
                self.now,
                max_window=max(max_window, self.length),
                one_by_one=self.length == 1,
                busy=busy.__contains__,
            )
        )
        assert not busy & {event.lane for event in frozen}

    @precondition(lambda self: self._idle())
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """An attempt at some event begins, unless that could count it twice."""
        self._begin(data.draw(st.sampled_from(self._idle())))

    def _begin(self, event: MeterEvent) -> None:
        if too_old_to_resend(event, self.now):
            self._run(self.book.ledger.expire(event, self.now))
        else:
            self._run(self.book.ledger.begin([event], self.now))
            self.in_flight.append(event)

    @precondition(lambda self: self.in_flight)
    @rule(outcome=OUTCOMES, processed=st.booleans())
    def settle(self, outcome: Outcome, processed: bool) -> None:
        """Some answer, or none; if none, the event may have been counted."""
        event = self.in_flight.pop(0)
        uncertain = getattr(outcome, "uncertain", False)
        if isinstance(outcome, Accepted) or (uncertain and processed):
            self.stripe.take(event, self.now)
        self._run(self.book.ledger.settle(event, outcome, self.now))

    @precondition(lambda self: self._in_state(EventState.ACCEPTED))
    @rule(data=st.data())
    def reject_late(self, data: st.DataObject) -> None:
        """Stripe said yes, and reports later that it has not counted the event."""
        event_id, identifier = data.draw(st.sampled_from(self._in_state(EventState.ACCEPTED)))
        if identifier in self.stripe.counting:
            self.stripe.uncount(identifier)
            ground = verdicts.Ground("service", "reported", {})
            self._command(lambda c: verdicts.reject(c, event_id, "no_customer", "gone", ground, self.now))

    @precondition(lambda self: self._in_state(EventState.UNKNOWN))
    @rule(data=st.data())
    def find_out(self, data: st.DataObject) -> None:
        """The meter's summary shows whether an event of unknown outcome was counted."""
        _, identifier = data.draw(st.sampled_from(self._in_state(EventState.UNKNOWN)))
        counted = identifier in self.stripe.counting
        self._command(
            lambda c: verdicts.decide(c, identifier, counted=counted, actor="ops", why="seen", now=self.now)
        )

    @rule(filters=FILTERS, few=st.booleans())
    def release(self, filters: Filters, few: bool) -> None:
        """Somebody lets some of what is in quarantine be decided about again."""
        self._on_quarantine(filters, few, lambda c, entries: release(c, Names, entries, Decided(), OPS, self.now))

    @rule(filters=FILTERS)
    def discard(self, filters: Filters) -> None:
        """Somebody decides that some of it is not billed."""
        self._on_quarantine(filters, True, lambda c, entries: discard(c, entries, OPS, self.now))

    @rule(outcomes=st.lists(st.tuples(OUTCOMES, st.booleans()), min_size=3, max_size=6))
    def deliver(self, outcomes: list[tuple[Outcome, bool]]) -> None:
        """The usual way of things: windows end, are frozen, and the first events of all lanes are sent."""
        self.now += 60
        self.freeze(60)
        for outcome, processed in outcomes:
            for event in self._idle():
                self._begin(event)
            if self.in_flight:
                self.settle(outcome, processed)

    @rule(length=LENGTHS, processed=st.booleans())
    def crash(self, length: int, processed: bool) -> None:
        """The process dies: what is in memory is gone, what was under way may have been counted."""
        for event in self.in_flight:
            if processed:
                self.stripe.take(event, self.now)
        self.in_flight.clear()
        elsewhere = Path(tempfile.mkdtemp())
        shutil.copytree(self.directory, elsewhere, dirs_exist_ok=True)  # as it is on the disk at this instant
        self._close()
        shutil.rmtree(self.directory)
        self.directory = elsewhere
        self._open(length)

    @rule(seconds=st.sampled_from([1, 9, 50, 61, 3600, 20 * 3600, DAY, 20 * DAY]))
    def time_passes(self, seconds: int) -> None:
        """Windows end, identifiers are forgotten, usage gets too old."""
        self.now += seconds

    @rule(back=st.integers(1, 600))
    def clock_is_set_back(self, back: int) -> None:
        """A little, as clocks are; nothing may break on time that comes twice."""
        self.now -= back

    @rule(user=st.sampled_from(USERS), number=st.integers(1, 2), there=st.booleans())
    def customer_changes(self, user: str, number: int, there: bool) -> None:
        """A customer appears or disappears; with two of one value nobody is billed."""
        customer = f"{user}/{number}"
        (self.customers[user].add if there else self.customers[user].discard)(customer)
        change = CustomerChange(customer, {"account_id": user} if there else None)
        self._run(self.book.ledger.apply_customers("", FIELDS, [change], int(self.now)))

    @rule(there=st.sampled_from([True, True, False, None]))
    def meter_changes(self, there: bool | None) -> None:
        """The meter is there, is switched off, or is not known yet."""
        self.meter = {True: self.formula, False: Reason.NO_METER, None: None}[there]
        if there:
            self._run(self.book.ledger.reopen_meter(*METER))

    @precondition(lambda self: hasattr(self, "book"))
    @rule(days=st.sampled_from([1, 3, 35]))
    def prune(self, days: int) -> None:
        """What is settled and old goes: what is billed stays in the sums, what waits stays, the rest is forgotten."""
        before = {user: self._report(user, None) for user in USERS}
        self._run(prune(self.book, self.now, retention=days * DAY))
        self.pruned_to = pruned_to(self.directory)
        for user in USERS:
            for was, now, ours in zip(
                before[user], self._report(user, None), (self.requests, self.committed), strict=True
            ):
                gone = was - now
                assert not now - was
                assert set(gone) <= {Standing.DISCARDED, Standing.CANCELLED}
                ours[user] -= gone.total()
        self.sent = [one for one in self.sent if one.at_ns / 10**9 >= self.pruned_to]
        self.children = [one for one in self.children if one[0].at_ns / 10**9 >= self.pruned_to]

    # What must hold

    @invariant()
    def every_charge_stands_at_one_point(self) -> None:
        """Billed, waiting and quarantined add up to what was committed, in requests and in quantity."""
        if not hasattr(self, "book"):
            return
        for user in USERS:
            requests, quantity = self._report(user, None)
            assert sum(requests.values()) == self.requests[user], (user, requests)
            assert sum(quantity.values()) == self.committed[user], (user, quantity)

    @invariant()
    def nobody_pays_twice(self) -> None:
        """Stripe has counted what the ledger calls billed, and nothing but what the ledger cannot be sure of."""
        if not hasattr(self, "book"):
            return
        for user in USERS:
            sure = sum(self._report(user, SURE)[1].values())
            perhaps = sum(self._report(user, PERHAPS)[1].values())
            assert sure <= self.stripe.counted[user] <= perhaps, user

    @invariant()
    def daily_sums_are_those_of_their_rows(self) -> None:
        """What is kept by day is what one would count anew, whichever steps were taken."""
        if hasattr(self, "book"):
            since = self.pruned_to // DAY
            assert kept_by_day(self.directory, since) == counted_by_day(self.directory, since)

    # How it is done

    def _commit(self, records: list[UsageRecord]) -> None:
        self._run(self.book.commit(batch(*records), self.now))
        self._took(records)

    def _took(self, records: list[UsageRecord]) -> None:
        self.sent.extend(records)
        for one in records:
            assert one.user is not None
            assert isinstance(one.quantity, int)
            self.requests[one.user] += 1
            self.committed[one.user] += one.quantity

    def _report(self, user: str | None, standings: tuple[Standing, ...] | None) -> tuple[Counter[str], Counter[str]]:
        requests: Counter[str] = Counter()
        quantity: Counter[str] = Counter()
        for line in self.book.usage():
            if line.user == user and (standings is None or line.standing in standings):
                requests[line.standing] += line.requests
                quantity[line.standing] += int(line.quantity)
        return requests, quantity

    def _on_quarantine(
        self, filters: Filters, few: bool, change: Callable[[sqlite3.Connection, list[Entry]], list[Entry]]
    ) -> None:
        """Choose entries, and change them later: what has changed meanwhile must be left alone."""
        with closing(open_for_reading(self.directory)) as connection:
            chosen = [entry for page in pages(connection, filters) for entry in page][: 2 if few else None]
        self._command(lambda c: change(c, chosen))
        assert not self._changed_again(chosen, change)

    def _changed_again(
        self, chosen: list[Entry], change: Callable[[sqlite3.Connection, list[Entry]], list[Entry]]
    ) -> list[Entry]:
        """What the same decision, given a second time, would change."""
        done: list[Entry] = []
        self._command(lambda c: done.extend(change(c, chosen)))
        return done

    def _in_state(self, state: EventState) -> list[tuple[int, str]]:
        """(event id, identifier) of the events in a state that nobody is sending."""
        if not hasattr(self, "book"):
            return []
        with closing(open_for_commands(self.directory)) as connection:
            rows = connection.execute("SELECT event_id, identifier FROM meter_events WHERE state = ?", (state,))
            return [(int(event_id), str(identifier)) for event_id, identifier in rows]

    def _command(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """What a command does, while the ledger is open."""
        with closing(open_for_commands(self.directory)) as connection, transaction(connection):
            change(connection)

    def _unsettled(self) -> list[MeterEvent]:
        return self._run(self.book.ledger.unsettled(0, 1_000))

    def _idle(self) -> list[MeterEvent]:
        """Events that nobody is sending: the first of each lane, as the sender takes them."""
        if not hasattr(self, "book"):
            return []
        busy = {event.lane for event in self.in_flight}
        heads: dict[tuple[str, str, str], MeterEvent] = {}
        for event in self._unsettled():
            if event.lane not in busy:
                heads.setdefault(event.lane, event)
        return list(heads.values())

    def _run(self, work):  # type: ignore[no-untyped-def]
        return self.runner.run(work)

    def _open(self, length: int) -> None:
        self.length = length
        self.opened = book(self.directory, window=length)
        self.book: Book = self._run(self.opened.__aenter__())

    def _close(self) -> None:
        self._run(self.opened.__aexit__(None, None, None))


TestLedgerModel = LedgerModel.TestCase
TestLedgerModel.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
# Where it fails, Hypothesis looks for the smallest example for up to five minutes.
TestLedgerModel = pytest.mark.timeout(600)(TestLedgerModel)
