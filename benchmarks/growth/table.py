"""The points as people read them, and as Markdown for the docs."""

from growth.point import Point, Result

HEADS = ("curve", "size", "CPU us/span", "ack p50 ms", "ack p99 ms", "MiB", "start s", "ledger MiB", "load")


def cells(point: Point) -> tuple[str, ...]:
    """The columns of a point."""
    return (
        point.curve,
        f"{point.size:,}",
        f"{point.cpu:.1f}",
        f"{1e3 * point.p50:.1f}",
        f"{1e3 * point.p99:.1f}",
        f"{point.peak_memory / 2**20:.0f}",
        f"{point.start:.2f}",
        f"{point.ledger / 2**20:.0f}",
        f"{point.load:.1f}",
    )


def print_point(point: Point) -> None:
    """While it runs."""
    print("".join(f"{cell:>13}" for cell in cells(point)), flush=True)


def print_table(result: Result) -> None:
    """Everything, and what the largest costs of the smallest."""
    print("\n| " + " | ".join(HEADS) + " |")
    print("| --- |" + " ---: |" * (len(HEADS) - 1))
    for point in result.points:
        print("| " + " | ".join(cells(point)) + " |")
    print()
    for curve in dict.fromkeys(point.curve for point in result.points):
        points = [point for point in result.points if point.curve == curve]
        small, large = points[0], points[-1]
        print(f"{curve}, {large.size:,} against {small.size:,}: {large.cpu / small.cpu:.2f} times the CPU time")
