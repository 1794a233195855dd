"""Two results side by side: `make bench-compare A=OLD.json B=NEW.json`."""

import argparse
from pathlib import Path

from throughput.result import read
from throughput.table import ratios


def main() -> None:
    """Print what became of each point."""
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__)
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    arguments = parser.parse_args()
    one, other = read(arguments.a), read(arguments.b)
    for key in sorted(one.machine.keys() | other.machine.keys()):
        if one.machine.get(key) != other.machine.get(key):
            print(f"{key}: {one.machine.get(key)} -> {other.machine.get(key)}")
    print(f"{'':42}{'spans/s':>22}{'p99 ms':>20}{'CPU s/M':>18}")
    for before in one.points:
        after = other.find(before.server, before.protocol, before.spans, before.connections)
        if after is None:
            continue
        name = f"{before.server}, {before.protocol}, {before.spans} x {before.connections}"
        print(
            f"{name:42}{before.spans_per_second:10,.0f} -> {after.spans_per_second:8,.0f}"
            f"{1e3 * before.p99:9.1f} -> {1e3 * after.p99:7.1f}"
            f"{before.cpu_per_million:8.1f} -> {after.cpu_per_million:6.1f}"
        )
    told = {(spans, connections): ratio for spans, connections, ratio in ratios(one)}
    for spans, connections, ratio in ratios(other):
        if (spans, connections) in told:
            print(f"of the empty server, {spans} x {connections}: {told[spans, connections]:.2f} -> {ratio:.2f}")


if __name__ == "__main__":
    main()
