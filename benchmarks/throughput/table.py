"""The result, as people read it."""

from throughput.point import Point
from throughput.result import Result

HEADS = ("batch", "conn.", "spans/s", "calls/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU s/M", "busy", "driver", "MiB")
SERVICE = "otel-usageflow"
EMPTY = "empty gRPC server"


def line(point: Point) -> list[str]:
    """The columns of a point."""
    return [
        str(point.spans),
        str(point.connections),
        f"{point.spans_per_second:,.0f}",
        f"{point.calls_per_second:,.0f}",
        *(f"{1_000 * seconds:.1f}" for seconds in (point.p50, point.p99, point.p999)),
        f"{point.cpu_per_million:.1f}",
        f"{point.server_busy:.2f}",
        f"{point.driver_busy:.2f}",
        f"{point.peak_memory / 2**20:.0f}",
    ]


def print_point(point: Point) -> None:
    """While it runs."""
    refused = f"  refused: {point.refused}" if point.refused else ""
    print(
        f"{point.server:20} {point.protocol:5}" + "".join(f"{text:>10}" for text in line(point)) + refused, flush=True
    )


def print_table(result: Result) -> None:
    """All points in Markdown, for the docs."""
    print()
    for key, value in result.machine.items():
        print(f"{key}: {value}")
    groups = dict.fromkeys((point.server, point.protocol) for point in result.points)
    for server, protocol in groups:
        print(f"\n{server}, {protocol}\n")
        print("| " + " | ".join(HEADS) + " |")
        print("|" + " ---: |" * len(HEADS))
        for point in result.points:
            if (point.server, point.protocol) == (server, protocol):
                print("| " + " | ".join(line(point)) + " |")


def ratios(result: Result) -> list[tuple[int, int, float]]:
    """(batch, connections, calls of the service for each call of the empty server)."""
    found = []
    for point in result.points:
        floor = result.find(EMPTY, "grpc", point.spans, point.connections)
        if (point.server, point.protocol) == (SERVICE, "grpc") and floor is not None:
            found.append((point.spans, point.connections, point.calls_per_second / floor.calls_per_second))
    return found


def print_summary(result: Result) -> None:
    """Ratios, and the disk."""
    for spans, connections, ratio in ratios(result):
        print(f"batches of {spans}, {connections} connections: {ratio:.2f} of the empty gRPC server")
    sizes = [point.bytes_per_million for point in result.points if point.bytes_per_million]
    if sizes:
        print(f"ledger: {sorted(sizes)[len(sizes) // 2] / 2**20:.0f} MiB for a million records (median)")
