"""A ledger restored from a backup, where the stream was used: nothing is sent again by a way that is guessed."""

from pathlib import Path

import pytest
from billing import batch, record
from full_ledger import NOON
from ledgers import book

from otel_usageflow.extensions.sqlite_storage.file import LEDGER
from otel_usageflow.extensions.sqlite_storage.upkeep.maintenance import back_up
from otel_usageflow.ledger.ledger import CustomerChange
from otel_usageflow.model.outcome import Accepted


def quiet(*_: object) -> None:
    """No progress."""


@pytest.mark.parametrize("window", [10, 1])
@pytest.mark.parametrize("frozen_before", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
async def test_what_may_have_gone_by_either_way(
    tmp_path: Path, window: int, frozen_before: bool, streamed: bool
) -> None:
    """Once the stream was used, an event of the copy is no more sent blindly: each way may know only its own."""
    async with book(tmp_path, window=window) as first:
        await first.list_customers({})
        await first.ledger.apply_customers("", ("account_id",), [CustomerChange("cus_1", {"account_id": "acme"})], 1)
        await first.commit(batch(record("acme", at=NOON)), NOON)
        one_by_one = window == 1
        events = await first.freeze(NOON + 60, one_by_one=one_by_one)
        if streamed:
            await first.ledger.begin_batches([events], NOON + 60)
            await first.ledger.settle_batch([(event, Accepted()) for event in events], NOON + 60)
        else:
            await first.ledger.begin(events, NOON + 60)
            await first.ledger.settle(events[0], Accepted(), NOON + 60)
        await first.commit(batch(record("acme", at=NOON + 60)), NOON + 60)
        if frozen_before:
            assert await first.freeze(NOON + 120, one_by_one=one_by_one)
        (tmp_path / "again").mkdir()
        back_up(tmp_path, tmp_path / "again" / LEDGER, quiet)
    async with book(tmp_path / "again", window=window) as again:
        frozen = await again.freeze(NOON + 180, one_by_one=one_by_one)
        left = await again.ledger.unsettled(0, 10)
        sent_again = not streamed and (frozen_before or one_by_one)
        assert len(left) == sent_again
        assert len(frozen) == (sent_again and not frozen_before)
        assert await again.ledger.doubts.open_counts() == (0 if sent_again else 1, 0)
