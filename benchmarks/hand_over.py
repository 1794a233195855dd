"""What handing usage from one process to another would cost, were receiving in processes of its own.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/hand_over.py

A batch of 512 spans is decided, and what the ledger needs of it goes through a pipe to another process: as pickled
tuples with the terms of each policy named by a number, which is about the least that Python can do. Prints the CPU
time of each side.
"""

import argparse
import multiprocessing
import pickle
import time
from multiprocessing.connection import Connection

from policy_micro import NOW, SPANS, batch, engine

from otel_usageflow.model.usage import UsageRecord


def _owner(end: Connection, rounds: int) -> None:
    """The side of the ledger: takes records and makes them what they were."""
    terms = engine().policies[0].terms
    told = end.recv_bytes()
    began = time.process_time()
    for _ in range(rounds):
        records = [UsageRecord(*one[:4], terms, *one[5:]) for one in pickle.loads(told)]
        assert len(records) == SPANS
        end.send_bytes(b"taken")
        told = end.recv_bytes()
    end.send(time.process_time() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2_000, help="batches (2000)")
    rounds = parser.parse_args().rounds
    records = engine().evaluate(batch(""), NOW).records
    plain = [(*record[:4], 0, *record[5:]) for record in records]
    here, there = multiprocessing.Pipe()
    owner = multiprocessing.Process(target=_owner, args=(there, rounds))
    owner.start()
    began = time.process_time()
    for _ in range(rounds):
        here.send_bytes(pickle.dumps(plain, protocol=5))
        here.recv_bytes()
    spent = time.process_time() - began
    here.send_bytes(b"")
    taken = here.recv()
    owner.join()
    print(f"{len(pickle.dumps(plain, protocol=5)) / SPANS:.0f} bytes a record")
    for side, seconds in (("the side that receives", spent), ("the side of the ledger", taken)):
        print(f"{side:24}{seconds / rounds / SPANS * 1e6:8.2f} us of CPU time a record")


if __name__ == "__main__":
    main()
