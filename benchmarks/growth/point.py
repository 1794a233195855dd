"""What is measured at one point of a curve, and how it is kept: `benchmarks/results/DATE-growth.json`."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TITLES = {
    "policies": "policies",
    "records": "records in the ledger",
    "users": "users",
    "directory": "customers in the directory",
    "quarantine": "charges in quarantine",
    "backlog": "meter events to be sent",
    "together": "customers, and as many meter events to be sent, with 100,000 active users",
}


@dataclass(frozen=True, slots=True)
class Point:
    """What a batch cost at one size. Seconds, bytes, counts."""

    curve: str
    size: int
    cpu: float
    """CPU microseconds of the service for each span, whatever else it did meanwhile included."""
    p50: float
    """Until a batch was acknowledged, that is, committed."""
    p99: float
    peak_memory: int
    """Since the start of the process."""
    start: float
    """From the start of the process until it was ready."""
    ledger: int
    """The size of the ledger's file."""
    batches_per_second: float
    load: float
    """Of the machine, after the measurement."""


@dataclass(slots=True)
class Result:
    """Where, when and with what, and the points."""

    machine: dict[str, str]
    points: list[Point]

    def put(self, point: Point) -> None:
        """Take a point in, instead of an earlier one of the same size."""
        kept = [one for one in self.points if (one.curve, one.size) != (point.curve, point.size)]
        self.points = sorted([*kept, point], key=lambda one: (list(TITLES).index(one.curve), one.size))

    def write(self, path: Path) -> None:
        """Keep it."""
        points: list[dict[str, Any]] = [dataclasses.asdict(point) for point in self.points]
        short = [
            {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in one.items()}
            for one in points
        ]
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"machine": self.machine, "points": short}, indent=1) + "\n")


def read(path: Path) -> Result:
    """What was kept."""
    document = json.loads(path.read_text())
    return Result(document["machine"], [Point(**point) for point in document["points"]])
