"""The curves as a picture: `python -m growth.plot RESULT.json PICTURE.png`. Needs matplotlib."""

import sys
from pathlib import Path

import matplotlib as mpl

from growth.point import TITLES, Result, read

mpl.use("Agg")
from matplotlib import pyplot as plt

PLOTTED = ("policies", "records", "users", "directory", "quarantine", "backlog")


def draw(result: Result, path: Path) -> None:
    """CPU time and the median of acknowledgements, and memory on an axis of its own; a small plot for each curve."""
    figure, places = plt.subplots(2, 3, figsize=(12, 6.4))
    for axes, curve in zip(places.flat, PLOTTED, strict=True):
        title = TITLES[curve]
        points = [point for point in result.points if point.curve == curve]
        if not points:
            axes.set_title(f"{title}: not measured")
            axes.set_axis_off()
            continue
        sizes = [point.size for point in points]
        axes.set(title=title, xscale="symlog" if 0 in sizes else "log")
        if 0 in sizes:
            axes.set_xscale("symlog", linthresh=1_000)
        cost = axes.plot(sizes, [point.cpu for point in points], "o-", color="C0", label="CPU us a span")
        time = axes.plot(sizes, [1e3 * point.p50 for point in points], "s--", color="C1", label="median ack, ms")
        axes.set_ylim(0, max([30, *(1.3 * max(point.cpu, 1e3 * point.p50) for point in points)]))
        axes.grid(alpha=0.25)
        memory = axes.twinx()
        kept = [point.peak_memory / 2**20 for point in points]
        held = memory.plot(sizes, kept, "^:", color="C2", label="memory, MiB (right)")
        memory.set_ylim(0, max(300, *kept) * 1.1 if kept else 330)
        if axes is places.flat[0]:
            axes.legend(handles=[*cost, *time, *held], fontsize="small", loc="center right")
    told = result.machine
    figure.suptitle(f"{told['date']}, {told['cores']} cores of an {told['cpu']}, batches of 512 spans", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    draw(read(Path(sys.argv[1])), Path(sys.argv[2]))
