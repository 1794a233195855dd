"""The ledger's model with calls of the stream: ways that share no memory, late reports, summaries, restored copies.

Stripe is as unhelpful here as it may be: an identifier that one way has seen is news to the other, a report names a
call and not always the event, and shows fewer errors than there were.
"""

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from counting import Receiver
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from test_ledger_model import LENGTHS, OUTCOMES, PERHAPS, SURE, USERS, LedgerModel

from otel_usageflow.delivery.attempts import _refuses_some, too_old_to_resend
from otel_usageflow.delivery.batches import Batch, plans
from otel_usageflow.exporters.stripe_meter.doubts import Settler
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM
from otel_usageflow.extensions.sqlite_storage.file import open_for_commands, transaction
from otel_usageflow.extensions.sqlite_storage.proof.copies import has_streamed, mark_copy
from otel_usageflow.ledger.charge import DAY, IDENTIFIER_MEMORY, MINUTE, STRIPE_PAST
from otel_usageflow.ledger.doubt import ErrorReport, ErrorSample
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Outcome, Refused, Retry

MOST = 100


class Summary(NamedTuple):
    """What a meter's summary says."""

    value: Decimal


class Error(NamedTuple):
    """An event that Stripe took and did not count."""

    key: str
    event: MeterEvent
    at: float


@dataclass
class TwoWays(Receiver):
    """Stripe, whose two ways know nothing of each other."""

    seen: dict[tuple[bool, str], float] = field(default_factory=dict)
    places: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """(Customer, minute) -> what counts there."""
    where: dict[str, tuple[tuple[str, int], int]] = field(default_factory=dict)
    errors: list[Error] = field(default_factory=list)

    def take(self, event: MeterEvent, now: float) -> None:
        """Process an attempt that is as it should be."""
        self.process(event, now)

    def process(self, event: MeterEvent, now: float, key: str = "", *, bad: bool = False, kept: bool = True) -> None:
        """Process an event: `bad` is not counted, and reported later; `kept`: its identifier is reserved even so."""
        seen = (event.batch > 0, event.identifier)
        if now - self.seen.get(seen, -DAY) < IDENTIFIER_MEMORY:
            return
        if not bad or kept:
            self.seen[seen] = now
        if bad:
            self.errors.append(Error(key, event, now))
            return
        user, value = event.customer.split("/")[0], int(event.value)
        place = (event.customer, event.timestamp // MINUTE * MINUTE)
        self.counted[user] += value
        self.counting[event.identifier] = user, value
        self.places.setdefault(place, []).append(value)
        self.where[event.identifier] = place, value

    def uncount(self, identifier: str) -> None:
        """Take back what counted."""
        super().uncount(identifier)
        place, value = self.where[identifier]
        self.places[place].remove(value)


@dataclass
class Side:
    """What the settler asks of its account, and of the summaries."""

    stripe: TwoWays
    formula: Formula
    name: str = ""

    def meter(self, event_name: str) -> Meter:
        """The only meter."""
        return Meter(event_name, self.formula, active=True, id="mtr_1")

    async def summaries(self, _account: str, _meter: str, customer: str, since: int, _until: int) -> list[Summary]:
        """What Stripe's summary says."""
        values = self.stripe.places.get((customer, since), [])
        return [Summary(Decimal(len(values) if self.formula is Formula.COUNT else sum(values)))]


class StreamModel(LedgerModel):
    """Drives a ledger as the sender does, by both ways in turn."""

    find_out = None  # type: ignore[assignment]  # here the summaries tell

    def __init__(self) -> None:
        super().__init__()
        self.stripe: TwoWays = TwoWays()
        self.most = MOST
        self.calls: list[Batch] = []
        self.alone: set[int] = set()
        self.late: list[Error] = []
        """Of which Stripe has told, or will."""
        self.told = 0
        self.restored = False

    # What happens

    def _begin(self, event: MeterEvent) -> None:
        self._begin_all([event])

    def _begin_all(self, events: Sequence[MeterEvent]) -> None:
        heads = []
        for event in events:
            if too_old_to_resend(event, self.now):
                self._run(self.book.ledger.expire(event, self.now))
            else:
                heads.append(event)
        for plan in plans(heads, self.most, lambda event: event.event_id in self.alone):
            key = ""
            if plan.together:
                (key,) = self._run(self.book.ledger.begin_batches([plan.events], self.now))
            else:
                self._run(self.book.ledger.begin(plan.events, self.now))
            self.calls.append(plan.begun(self.now, key))
            self.in_flight.extend(self.calls[-1].events)

    @precondition(lambda self: self._idle())
    @rule()
    def begin_together(self) -> None:
        """All that is ready goes, in as few calls as can be."""
        self._begin_all(self._idle())

    @precondition(lambda self: self.calls)
    @rule(outcome=OUTCOMES, processed=st.booleans(), bad=st.integers(0, 3), kept=st.booleans())
    def settle(self, outcome: Outcome, processed: bool, bad: int = 0, kept: bool = True) -> None:
        """An answer, or none; the stream's yes says only that it was received."""
        call = self.calls.pop(0)
        for event in call.events:
            self.in_flight.remove(event)
        if any(too_old_to_resend(event, self.now) for event in call.events):  # the machine slept: it is not made
            outcome, processed = Retry("too late", uncertain=True), False
        if call.key and isinstance(outcome, Retry):
            outcome = replace(outcome, new_key=False)
        if call.key and self.most > 1 and isinstance(outcome, Refused) and outcome.uncertain:
            outcome = Retry(outcome.why, uncertain=True)
        if isinstance(outcome, Accepted) or (getattr(outcome, "uncertain", False) and processed):
            for number, event in enumerate(call.events):
                self.stripe.process(
                    event, self.now, call.key or event.idempotency_key, bad=bool(bad & 1 << number), kept=kept
                )
        if len(call.events) > 1 and _refuses_some(outcome):
            self.alone.update(event.event_id for event in call.events)
            outcome = Retry("refused as a whole")
        settled = [(event, outcome) for event in call.events]
        if call.key:
            self._run(self.book.ledger.settle_batch(settled, self.now))
        else:
            self._run(self.book.ledger.settle(call.events[0], outcome, self.now))

    @rule(length=LENGTHS, processed=st.booleans(), streams=st.booleans())
    def crash(self, length: int, processed: bool, streams: bool = True) -> None:
        """The process dies, and goes on by the one way or the other."""
        self.calls.clear()
        self.alone.clear()
        super().crash(length, processed)
        self.most = MOST if streams else 1

    @rule(length=LENGTHS, sent=st.booleans())
    def restore(self, length: int, sent: bool) -> None:
        """A copy is made, the ledger goes on, perhaps freezes and sends, and is lost: the copy takes its place."""
        elsewhere = Path(tempfile.mkdtemp())
        shutil.copytree(self.directory, elsewhere, dirs_exist_ok=True)
        with closing(open_for_commands(elsewhere)) as connection, transaction(connection):
            mark_copy(connection, "copied", self.now)
            known_way = has_streamed(connection) or self.most == 1
        if sent and known_way:  # a copy from before the first call of the stream says that all goes the other way
            self.now += 61
            self.freeze(60)
            self._begin_all(self._idle())
            for event in self.in_flight:
                self.stripe.take(event, self.now)
        self.calls.clear()
        self.alone.clear()
        self.in_flight.clear()
        self.restored = True
        self._close()
        shutil.rmtree(self.directory)
        self.directory = elsewhere
        self._open(length)

    @rule(named=st.booleans(), shown=st.integers(0, 3), meter=st.booleans())
    def report(self, named: bool, shown: int, meter: bool) -> None:
        """Stripe tells what it has not counted: by the call, perhaps with the customer, and not all of it."""
        errors, self.stripe.errors = self.stripe.errors, []
        if not errors:
            return
        self.told += 1
        samples = tuple(
            ErrorSample(e.key, f"customer {e.event.customer} is not there" if named else "not there")
            for e in errors[: max(1, shown)]
        )
        times = [e.at for e in errors]
        name = "api_request" if meter else ""
        one = ErrorReport(f"evt_{self.told}", "gone", name, "", min(times), max(times) + 1, len(errors), samples)
        self._run(self.book.ledger.doubts.take_reports("", [one], "2026-01-01T00:00:00Z", self.now))
        self.late.extend(errors)
        self._run(self.book.ledger.doubts.apply_reports("", self.now))

    @rule()
    def look(self) -> None:
        """An hour later the summaries are asked."""
        self.report(True, 1, True)
        self.now += RHYTHM.summary_delay + 700
        self._run(self.book.ledger.doubts.apply_reports("", self.now))
        side = Side(self.stripe, self.formula)
        settler = Settler(self.book.ledger.doubts, side, side, lambda: self.now, RHYTHM, lambda: True)  # type: ignore[arg-type]
        for _ in range(4):
            self._run(settler.look())

    # What must hold

    @invariant()
    def nobody_pays_twice(self) -> None:
        """Nothing is counted that the ledger does not bill or doubt; what it bills is counted, or was told late."""
        if not hasattr(self, "book"):
            return
        for user in USERS:
            sure = sum(self._report(user, SURE)[1].values())
            # What a copy has not frozen may have been sent as well.
            perhaps = sum(self._report(user, None if self.restored else PERHAPS)[1].values())
            late = [*self.late, *self.stripe.errors]
            owed = sum(int(e.event.value) for e in late if e.event.customer.split("/")[0] == user)
            assert sure - owed <= self.stripe.counted[user] <= perhaps, user

    def teardown(self) -> None:
        """In the end, when nothing is in doubt any more, what the ledger calls billed is what Stripe has counted."""
        try:
            if hasattr(self, "book"):
                self._end()
        finally:
            super().teardown()

    def _end(self) -> None:
        self.crash(self.length, True, self.most > 1)
        for _ in range(6):
            for _ in range(4):
                for event in self._idle():
                    self._begin(event)
                while self.calls:
                    self.settle(Accepted(), True)
            self.look()
        if any(self._run(self.book.ledger.doubts.open_counts())):
            return  # kept, and visible
        for user in USERS:
            sure = sum(self._report(user, SURE)[1].values())
            given_up = sum(
                int(e.event.value)
                for e in self.late
                if e.event.customer.split("/")[0] == user and self.now - e.at > STRIPE_PAST / 2
            )
            assert sure - given_up <= self.stripe.counted[user], (user, sure, given_up, self.stripe.counted)


TestStreamModel = StreamModel.TestCase
TestStreamModel.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
# Where it fails, Hypothesis looks for the smallest example for up to five minutes.
TestStreamModel = pytest.mark.timeout(600)(TestStreamModel)
