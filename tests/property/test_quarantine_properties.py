"""Quarantine whatever happens in whatever order: a request is counted at most once, and nothing is lost."""

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from billing import CHAT, batch, record
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import Book, book
from quarantine_command import nothing_is_wrong

from otel_usageflow.extensions.sqlite_storage.names import Names
from otel_usageflow.extensions.sqlite_storage.quarantine import entries as quarantine_entries
from otel_usageflow.extensions.sqlite_storage.quarantine import release
from otel_usageflow.extensions.sqlite_storage.quarantine.decisions import Who
from otel_usageflow.ledger.freeze import Formula
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.ledger.quarantine import Decided, Filters
from otel_usageflow.model.outcome import Accepted, Refused
from otel_usageflow.model.usage import Reason, Terms, UsageRecord

NOON = 1_700_000_000 - 1_700_000_000 % 60
TERMS = (CHAT, replace(CHAT, metadata_field="team"), replace(CHAT, event_name="chat_request"))
ANSWERS = st.sampled_from(
    [
        Accepted(),
        Accepted(),
        Refused(Reason.REJECTED, "no"),
        Refused(Reason.REJECTED, "gone", "meter_event_customer_not_found"),
        Refused(Reason.NO_CUSTOMER, "gone"),
        Refused(Reason.NO_METER, "inactive"),
    ]
)
USERS = st.sampled_from(["acme", "beta", None])
STEPS = st.one_of(
    st.tuples(st.just("commit"), USERS, st.integers(0, 50)),
    st.tuples(st.just("again"), st.integers(0, 100), st.booleans()),
    st.tuples(st.just("bill"), st.lists(ANSWERS, min_size=1, max_size=3), st.booleans()),
    st.tuples(st.just("release"), st.sampled_from([None, "acme"]), st.integers(1, 5)),
    st.tuples(st.just("discard"), st.none(), st.integers(1, 2)),
    st.tuples(st.just("terms"), st.sampled_from(TERMS), st.none()),
    st.tuples(st.just("customer"), st.sampled_from(["acme", "beta"]), st.booleans()),
)


class _World:
    """A ledger, the present policy, and what was counted and discarded."""

    def __init__(self, open_book: Book) -> None:
        self.book = open_book
        self.terms: Terms = CHAT
        self.sent: list[UsageRecord] = []
        self.total = 0
        """What was counted. Requests count a power of ten each: a sum shows who is in it, and how often."""
        self.discarded = 0
        self.now = float(NOON + 600)

    async def commit(self, user: str | None, ago: int) -> None:
        reason = Reason.NO_USER if user is None else None
        one = record(user, at=NOON + 100 - ago, quantity=10 ** len(self.sent), reason=reason, terms=self.terms)
        self.sent.append(one)
        await self.book.commit(batch(one), self.now)

    async def again(self, number: int, mended: bool) -> None:
        """A span comes again, as it came or under the terms that it was put under; its user may be found now."""
        if self.sent:
            one = self.sent[number % len(self.sent)]
            if number % 2:
                one = one._replace(terms=await self._terms_of(one))
            await self.book.commit(
                batch(one._replace(user=one.user or "acme", reason=None) if mended else one), self.now
            )

    async def _terms_of(self, one: UsageRecord) -> Terms:
        """The terms that a request stands under now. Only what is held ever changes them."""
        query = """SELECT event_name, metadata_field
                   FROM records JOIN series USING (series_id) JOIN meters USING (meter_id)
                   WHERE substr(key, 5, 16) = ? AND quantity IS NOT NULL"""
        row = await self.book.ledger._look(lambda c: c.execute(query, (one.trace_id,)).fetchone())
        return one.terms if row is None else replace(one.terms, event_name=row[0], metadata_field=row[1])

    async def bill(self, answers: list[Accepted | Refused], one_by_one: bool) -> None:
        self.now += 1
        events = await self.book.freeze(self.now, one_by_one=one_by_one)
        for number, event in enumerate([*events, *await self.book.ledger.take_released(100)]):
            answer = answers[number % len(answers)]
            await self.book.ledger.begin([event], self.now)
            await self.book.ledger.settle(event, answer, self.now)
            if isinstance(answer, Accepted):
                self.total += int(event.value)

    async def decide(self, action: str, user: str | None, most: int) -> None:
        """Release, or discard, the first few entries."""

        def change(connection: object) -> list[int]:
            pages = [*quarantine_entries.pages(connection, Filters())]  # type: ignore[arg-type]
            entries = [entry for page in pages for entry in page][:most]
            who = Who("somebody", "a test")
            if action == "discard":
                done = release.discard(connection, entries, who, self.now)  # type: ignore[arg-type]
            else:
                decided = Decided(user)
                done = release.release(connection, Names, entries, decided, who, self.now)  # type: ignore[arg-type]
            return [int(entry.quantity or 0) for entry in done]

        done = await self.book.ledger._run(change)
        if action == "discard":
            self.discarded += sum(done)

    async def change_terms(self, terms: Terms) -> None:
        self.terms = terms
        await self.book.ledger.releases.refile([terms], self.now)

    async def customer(self, user: str, is_there: bool) -> None:
        values = dict.fromkeys(self.book.fields, user) if is_there else None
        await self.book.ledger.apply_customers("", self.book.fields, [CustomerChange(f"cus_{user}", values)], 2)


@settings(max_examples=120)
@given(steps=st.lists(STEPS, min_size=3, max_size=25), length=st.sampled_from([10, 1, 60]))
def test_a_request_is_counted_once(steps: list[tuple[str, object, object]], length: int) -> None:
    """In the end, with customers and meters there and everything released, what was not discarded is counted once."""
    directory = Path(tempfile.mkdtemp()) / "ledger"
    try:
        asyncio.run(_live(directory, steps, length))
        nothing_is_wrong(directory)
    finally:
        shutil.rmtree(directory.parent)


async def _live(directory: Path, steps: list[tuple[str, object, object]], length: int) -> None:
    async with book(directory, window=length) as open_book:
        open_book.fields = ("account_id", "team")
        open_book.meters["", "chat_request"] = Formula.SUM
        await open_book.list_customers({})
        world = _World(open_book)
        for what, one, two in steps:
            match what:
                case "release" | "discard":
                    await world.decide(what, one, two)  # type: ignore[arg-type]
                case "terms":
                    await world.change_terms(one)  # type: ignore[arg-type]
                case _:
                    await getattr(world, what)(one, two)
            assert all(digit in "01" for digit in str(world.total + world.discarded)), "counted twice"
        for user in ("acme", "beta"):
            await world.customer(user, True)
        for _ in range(3):
            await world.decide("release", "acme", 1_000)
            for user in ("acme", "beta"):  # what was given back is held for a customer or a meter
                await world.customer(user, False)
                await world.customer(user, True)
            for meter in open_book.meters:
                await open_book.ledger.reopen_meter(*meter)
            world.now += 60
            for _ in range(4):
                await world.bill([Accepted()], False)
        assert world.total + world.discarded == sum(int(one.quantity or 0) for one in world.sent)
