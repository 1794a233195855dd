"""Commits that wait for the writer share one filing; what each is told, and what is billed, is as if they had not."""

import asyncio
import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import book

from otel_usageflow.ledger.ledger import Committed
from otel_usageflow.model.usage import Reason, Terms, UsageBatch, UsageRecord

NOW = 1_800_000_000
TERMS = (Terms("chat", "api_request", "account_id"), Terms("calls", "calls", "account_id"))
# (span, meter, user; no user for none): few of each, so that charges meet again.
RECORDS = st.tuples(st.integers(0, 5), st.sampled_from(TERMS), st.sampled_from(["ann", "bob", None]))
CALLS = st.lists(st.lists(RECORDS, max_size=6), min_size=1, max_size=6)


def batch(spans: list[tuple[int, Terms, str | None]]) -> UsageBatch:
    """Usage of these spans."""
    return UsageBatch(
        records=[
            UsageRecord(
                bytes(15) + b"\x01",
                (number + 1).to_bytes(8, "big"),
                NOW * 10**9 + number,
                NOW * 10**9 + number,
                terms,
                f"{user}" if user else None,
                "header x" if user else None,
                number,
                reason=None if user else Reason.NO_USER,
            )
            for number, terms, user in spans
        ]
    )


async def commits(directory: Path, calls: list[UsageBatch], *, together: bool) -> tuple[list[Committed], object]:
    """What each call is told, and what the ledger then says."""
    async with book(directory) as ledger:
        if together:
            told = await asyncio.gather(*(ledger.ledger.commit(call, NOW + 1.0) for call in calls))
        else:
            told = [await ledger.ledger.commit(call, NOW + 1.0) for call in calls]
        return list(told), ledger.standings()


@given(calls=CALLS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_billed_is_the_same_together_and_apart(
    tmp_path: Path, calls: list[list[tuple[int, Terms, str | None]]]
) -> None:
    """The same usage is billed and in quarantine, and as many charges are new, whether commits share or not."""
    name = os.urandom(4).hex()
    made = [batch(call) for call in calls]
    apart, alone = asyncio.run(commits(tmp_path / f"{name}-apart", made, together=False))
    shared, grouped = asyncio.run(commits(tmp_path / f"{name}-together", made, together=True))
    assert grouped == alone
    assert sum(one.billed for one in shared) == sum(one.billed for one in apart)
    for call, one in zip(made, shared, strict=True):
        assert one.billed + one.duplicates + sum(one.quarantined.values()) == len(call.records)


async def test_each_caller_is_told_its_own_part(tmp_path: Path) -> None:
    """A charge that two calls bring is new to the first of them, and a duplicate to the other."""
    one, two = batch([(1, TERMS[0], "ann"), (2, TERMS[0], None)]), batch([(1, TERMS[0], "ann"), (3, TERMS[0], "bob")])
    async with book(tmp_path) as ledger:
        await ledger.ledger.commit(UsageBatch(), NOW + 1.0)
        told = await asyncio.gather(*(ledger.ledger.commit(each, NOW + 1.0) for each in (one, two)))
    assert told[0] == Committed(1, 0, {Reason.NO_USER: 1})
    assert told[1] == Committed(1, 1, {})
