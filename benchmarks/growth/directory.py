"""Customers in the directory, listed and followed up to now."""

import asyncio
import time
from itertools import islice
from pathlib import Path

from throughput.customers import customers
from throughput.spans import FIELD

from growth.curve import Curve
from growth.storage import ledger
from otel_usageflow.ledger.ledger import CustomerChange

_PAGE = 1_000


def prepare(directory: Path, size: int) -> None:
    """As a listing leaves it."""
    asyncio.run(_list(directory, size))


async def _list(directory: Path, size: int) -> None:
    now, everybody = time.time(), customers(size)
    async with ledger(directory) as book:
        listing = await book.begin_listing("", [FIELD], now)
        while page := [CustomerChange(identity, {FIELD: name}) for name, identity in islice(everybody, _PAGE)]:
            listing = await book.list_page("", listing, page, int(now))
        await book.finish_listing("", [FIELD], listing.generation, now)
        await book.follow("", now)


CURVE = Curve("directory", (1_000, 10_000, 100_000, 1_000_000), prepare=prepare, customers=lambda size: size)
