"""What taking usage costs the ledger: commits of several sizes, one behind the other and many at once.

    PYTHONPATH=benchmarks:tests/support .venv/bin/python benchmarks/commit_micro.py

Prints microseconds per record: CPU time of the process, and time by the clock with fsync. Users are drawn by Zipf
from 100,000, as in `make bench`.
"""

import argparse
import asyncio
import itertools
import os
import random
import tempfile
import time
from pathlib import Path

import structlog
from ledgers import Book, book

from otel_usageflow.model.usage import Terms, UsageBatch, UsageRecord

TERMS = Terms("chat", "api_request", "account_id")
USERS = 100_000
SIZES = ((1, 64), (20, 64), (100, 16), (512, 1), (512, 16), (2_048, 4))
"""Records of a commit, and commits at once."""


def batches(records: int, number: int, chance: random.Random) -> list[UsageBatch]:
    """Usage that has never been before, of now."""
    ranks = range(USERS)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in ranks))
    made = []
    for _ in range(number):
        now = time.time_ns()
        users = [f"acct-{rank:08d}" for rank in chance.choices(ranks, cum_weights=weights, k=records)]
        usage = [UsageRecord(os.urandom(16), os.urandom(8), now, now, TERMS, user, "header x", 1) for user in users]
        made.append(UsageBatch(records=usage, spans=records, requests=records))
    return made


async def measure(ledger: Book, records: int, at_once: int, total: int) -> tuple[float, float]:
    """(CPU, clock) microseconds for each record."""
    made = batches(records, max(total // records // at_once, 2) * at_once, random.Random(records))
    cpu, clock = time.process_time(), time.perf_counter()
    for start in range(0, len(made), at_once):
        await asyncio.gather(*(ledger.commit(one, time.time()) for one in made[start : start + at_once]))
    done = len(made) * records
    return 1e6 * (time.process_time() - cpu) / done, 1e6 * (time.perf_counter() - clock) / done


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000, help="for each size (default: 50000)")
    total = parser.parse_args().records
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory())
    print(f"{'records':>10}{'at once':>10}{'CPU':>10}{'clock':>10}   us for each record")
    with tempfile.TemporaryDirectory() as directory:
        async with book(Path(directory)) as ledger:
            for records, at_once in SIZES:
                cpu, clock = await measure(ledger, records, at_once, min(total, 20_000) if records < 20 else total)
                print(f"{records:10}{at_once:10}{cpu:10.2f}{clock:10.2f}")


if __name__ == "__main__":
    asyncio.run(main())
