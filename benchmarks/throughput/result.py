"""A result of the measurement as it is kept: JSON, a line a point."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from throughput.point import Point

PACKAGES = ("otel-usageflow", "grpcio", "aiohttp", "protobuf")


@dataclass(slots=True)
class Result:
    """Where, when and with what, and what was measured."""

    machine: dict[str, str]
    points: list[Point]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"machine": self.machine, "points": [_short(dataclasses.asdict(point)) for point in self.points]}

    def find(self, server: str, protocol: str, spans: int, connections: int) -> Point | None:
        """A point; None if it was not measured."""
        wanted = (server, protocol, spans, connections)
        return next((p for p in self.points if (p.server, p.protocol, p.spans, p.connections) == wanted), None)


def read(path: Path) -> Result:
    """What was kept."""
    document = json.loads(path.read_text())
    return Result(document["machine"], [Point(**point) for point in document["points"]])


def machine() -> dict[str, str]:
    """Machine, date, versions."""
    told = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load before": f"{os.getloadavg()[0]:.1f}",
    }
    for package in PACKAGES:
        try:
            told[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return told


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _short(point: dict[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in point.items()}
