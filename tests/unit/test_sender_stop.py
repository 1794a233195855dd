"""A sender that is stopped while calls wait for their turn at a slow pace."""

from pathlib import Path

from billing import batch, record
from ledgers import book
from sender_world import NOON, World

from otel_usageflow.ledger.ledger import CustomerChange


async def test_stopping_does_not_wait_for_a_turn_that_is_minutes_away(tmp_path: Path) -> None:
    """What waits for its turn is given up at once, and all of it is there in the next life."""
    async with book(tmp_path) as open_book:
        await open_book.list_customers({})
        customers = [CustomerChange(f"cus_{n}", {"account_id": f"u{n}"}) for n in range(3)]
        await open_book.ledger.apply_customers("", ["account_id"], customers, 1)
        await open_book.commit(batch(*(record(f"u{n}", at=NOON) for n in range(3))), NOON)
        world = World(open_book, calls=0.01)

        async def waits() -> bool:
            left = await open_book.ledger.unsettled(0, 10)
            return len(left) == 2 and any(event.attempts for event in left)

        async with world.running():  # leaving it takes ten seconds at most
            await world.until(waits)
        assert len(world.sent) == 1
        assert len(await open_book.ledger.unsettled(0, 10)) == 2
        world = World(open_book)
        async with world.running():
            await world.until(world.settled)
        assert len(world.sent) == 2
