"""Who can take spans, and who cannot."""

from collections.abc import Mapping
from types import MappingProxyType


class ServiceHealth:
    """The one list of problems that every component reports to; empty means ready."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}

    def report(self, source: str, problem: str | None) -> None:
        """Say that `source` cannot take spans because of `problem`, or, with None, that it can again."""
        if problem is None:
            self._problems.pop(source, None)
        else:
            self._problems[source] = problem

    def problems(self) -> Mapping[str, str]:
        """Source -> problem, for all who have one now."""
        return MappingProxyType(self._problems)
