"""How many bytes of requests may be in flight at once: over the limit, clients are asked to come back.

gRPC's own limit on concurrent calls answers with a status that clients take for permanent, hence this one.
"""

from types import TracebackType
from typing import Self

from otel_usageflow.errors import Unavailable


class Admission:
    """A budget of bytes, shared by all transports of one receiver."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0

    def lease(self) -> "Lease":
        """Start with nothing; the request takes what it needs as it grows."""
        return Lease(self)


class Lease:
    """What one request holds of the budget, given back at the end of the `with` block."""

    __slots__ = ("_admission", "_held")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0

    def resize(self, size: int) -> None:
        """Hold `size` bytes from now on.

        Raises:
            Unavailable: there is not that much left. A request that is alone is always let in.
        """
        others = self._admission.in_flight - self._held
        if others and others + size > self._admission.limit:
            raise Unavailable("too many bytes of requests in flight, send it again later")
        self._admission.in_flight = others + size
        self._held = size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.in_flight -= self._held
        self._held = 0
