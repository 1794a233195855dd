"""Requests that are reported twice: by two instrumentations of one process, or by a proxy and what is behind it.

A request is taken for a double of another one when both are at the same path, and either belong to one trace and
come from two scopes or services, or come from two scopes of one service and run at the same time.
"""

from collections import Counter
from typing import Final, NamedTuple, TypeVar

_MOST: Final = 20_000
"""Requests that are remembered; doubles are closer together than that."""
_SIDE_BY_SIDE: Final = 8
"""Requests at one path that are remembered: as many may run at the same time."""


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Report(NamedTuple):
    """Who reported a request, and when it ran."""

    service: str
    scope: str
    start: int
    end: int


class Doubles:
    """Remembers the latest requests, and finds their doubles."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._by_trace: dict[tuple[bytes, int], Report] = {}
        self._by_place: dict[tuple[str, int], tuple[Report, ...]] = {}
        self.doubled: Counter[tuple[str, str, str]] = Counter()
        self.crossed: Counter[tuple[str, str]] = Counter()

    def add(self, trace_id: bytes, where: int, report: Report) -> str | None:
        """Take note of a request.

        Args:
            trace_id: of its span.
            where: a hash of method and path.
            report: who reported it.

        Returns:
            The other service, if the request is that of another service's span, too.
        """
        other = self._by_trace.get((trace_id, where))
        crossed = None
        if other is not None and other.service != report.service:
            first, second = sorted((other.service, report.service))
            self.crossed[first, second] += 1
            crossed = other.service
        elif other is not None and other.scope != report.scope:
            self._double(other, report)
        place = (report.service, where)
        near = self._by_place.get(place, ())
        if other is None:
            twin = next((one for one in near if one.scope != report.scope and _together(one, report)), None)
            if twin is not None:
                self._double(twin, report)
                near = tuple(one for one in near if one is not twin)
        _keep(self._by_trace, (trace_id, where), report, self._most)
        _keep(self._by_place, place, (report, *near)[:_SIDE_BY_SIDE], self._most)
        return crossed

    def _double(self, one: Report, two: Report) -> None:
        first, second = sorted((one.scope, two.scope))
        self.doubled[one.service, first, second] += 1


def _together(one: Report, two: Report) -> bool:
    """Whether the shorter one ran for half of its time or more while the other one did."""
    common = min(one.end, two.end) - max(one.start, two.start)
    return 2 * common >= min(one.end - one.start, two.end - two.start) and common >= 0


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
