"""The same as plain lines, for output that is no terminal."""

import time
from typing import IO

from otel_usageflow.demo.scene import Scene
from otel_usageflow.demo.screen import path_of
from otel_usageflow.ledger.amount import plain

_EVERY = 5.0
"""Seconds between two summaries."""


class Lines:
    """Writes news, meter events and, now and then, a summary. No control codes, nothing but ASCII."""

    def __init__(self, scene: Scene, stream: IO[str]) -> None:
        self._scene = scene
        self._stream = stream
        self._events = 0
        self._next = 0.0
        scene.listeners.append(self._write)

    def refresh(self) -> None:
        """Write what is new."""
        scene = self._scene
        fresh = scene.event_count - self._events
        for event in list(scene.events)[-fresh:] if fresh else ():
            self._write(f"{event.at} meter event  {event.customer:<9} {event.event_name:<15} {plain(event.value):>8}")
        self._events = scene.event_count
        now = time.monotonic()
        if scene.began is not None and now >= self._next:
            self._next = now + _EVERY
            self._write(f"{time.strftime('%H:%M:%S')} {self._summary()}")

    def _summary(self) -> str:
        scene = self._scene
        counts = ", ".join(f"{label.strip()} {count}" for label, count in path_of(scene))
        return f"requests sent {scene.tally.sent.total()}, {counts}"

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
