"""What is measured at one point."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """What one server did under one load. Seconds, bytes, counts."""

    server: str
    protocol: str
    spans: int
    """In a batch."""
    connections: int
    in_flight: int
    """Calls under way on each connection."""
    calls_per_second: float
    spans_per_second: float
    p50: float
    p99: float
    p999: float
    cpu_per_million: float
    """The server's CPU seconds for a million spans."""
    server_busy: float
    """CPU seconds of the server a second."""
    driver_busy: float
    """The same of the busiest driver: from about 0.9 on, it is the driver that is measured."""
    peak_memory: int
    refused: int
    bytes_per_million: float | None = None
    """What a million records added to the ledger's file."""
