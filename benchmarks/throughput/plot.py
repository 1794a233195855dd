"""A result as a picture: `python -m throughput.plot RESULT.json PICTURE.png`. Needs matplotlib."""

import sys
from pathlib import Path

import matplotlib as mpl

from throughput.result import Result, read

mpl.use("Agg")
from matplotlib import pyplot as plt

_STYLES = {"otel-usageflow": "o-", "empty gRPC server": "s--", "Rotel, black hole": "^:"}


def draw(result: Result, path: Path) -> None:
    """Spans a second, and CPU time for a million, by the size of batches; 16 connections."""
    figure, (speed, cost) = plt.subplots(1, 2, figsize=(11, 4.2))
    most = max(point.connections for point in result.points)
    for server, style in _STYLES.items():
        for protocol in ("grpc", "http"):
            points = [p for p in result.points if (p.server, p.protocol, p.connections) == (server, protocol, most)]
            if points:
                sizes, label = [p.spans for p in points], f"{server}, {protocol}"
                speed.plot(sizes, [p.spans_per_second for p in points], style, label=label)
                cost.plot(sizes, [p.cpu_per_million for p in points], style, label=label)
    for axes, title in ((speed, "spans acknowledged a second"), (cost, "CPU seconds of the server, a million spans")):
        axes.set(xscale="log", yscale="log", xlabel=f"spans in a batch, {most} connections", title=title)
        axes.grid(which="both", alpha=0.25)
    speed.legend(fontsize="small")
    told = result.machine
    figure.suptitle(
        f"{told['date']}, {told['cores']} cores of an {told['cpu']}, client on the same machine", fontsize=9
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(read(Path(sys.argv[1])), Path(sys.argv[2]))
