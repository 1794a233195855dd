"""How many bytes of requests may be in flight at once: over the limit, clients are asked to come back.

gRPC's own limit on concurrent calls answers with a status that clients take for permanent, hence this one. A request
whose size is not known before it is read counts as the usual one meanwhile, so that it is refused before it takes
memory.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from otel_usageflow.errors import Unavailable

BESIDE: Final = 32 * 1024
"""Bytes that a request takes beside its own, about: tasks, and what gRPC keeps of a call."""
_FIRST = 64 * 1024
"""What a request counts before the size of any is known."""
PATIENCE: Final = 10.0
"""Seconds for which a request that does not arrive counts; a client that fell silent must not keep others out."""


class Admission:
    """A budget of bytes, shared by all transports of one receiver."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.in_flight = 0
        self.usual = _FIRST
        """The size of requests of late, about."""
        self.awaited: dict[Lease, float] = {}
        """Those whose requests were not read yet, by when they began; the first has waited longest."""
        self.clock = clock

    def lease(self) -> "Lease":
        """Start with nothing; the request takes what it needs as it grows."""
        return Lease(self)

    def forget_the_silent(self) -> None:
        """No longer count what should have arrived by now."""
        late = self.clock() - PATIENCE
        while self.awaited:
            lease, since = next(iter(self.awaited.items()))
            if since > late:
                return
            lease.hold(0)


class Lease:
    """What one request holds of the budget, given back at the end of the `with` block."""

    __slots__ = ("_admission", "_held")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0

    def expect(self) -> None:
        """Hold what a request usually needs, until this one is there and its size is known.

        Raises:
            Unavailable: there is not that much left.
        """
        admission = self._admission
        self.resize(admission.usual)
        admission.awaited[self] = admission.clock()

    def arrived(self, size: int) -> None:
        """Hold what the request needs, now that it was read.

        Raises:
            Unavailable: as `resize`.
        """
        self._admission.usual += (size - self._admission.usual) // 16
        self.resize(size)

    def resize(self, size: int) -> None:
        """Hold `size` bytes from now on, and what a request takes beside them.

        Raises:
            Unavailable: there is not that much left. A request that is alone is always let in.
        """
        admission = self._admission
        size += BESIDE
        if not self._fits(size):
            admission.forget_the_silent()
            if not self._fits(size):
                raise Unavailable("too many bytes of requests in flight, send it again later")
        self.hold(size)

    def hold(self, size: int) -> None:
        """Hold exactly this, whatever is left."""
        self._admission.awaited.pop(self, None)
        self._admission.in_flight += size - self._held
        self._held = size

    def _fits(self, size: int) -> bool:
        others = self._admission.in_flight - self._held
        return not others or others + size <= self._admission.limit

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hold(0)
