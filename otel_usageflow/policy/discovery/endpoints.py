"""The endpoints of a survey: one for each method and shape of a path, whatever its parameters are called.

`/users/:id` of one service and `/users/{name}` of another take the same requests, so they are one endpoint; the
first spelling names its parameters.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from otel_usageflow.policy.discovery.count import EndpointCount, EndpointKey
from otel_usageflow.policy.discovery.facts import Place, path_places
from otel_usageflow.policy.discovery.template import WIDEST, Template, Widths, shape

MOST_ENDPOINTS: Final = 500


class Endpoints:
    """Finds the endpoint of a request, and makes those one that turn out to be the same.

    Args:
        widest: distinct words that may stand at one place of a path; with more of them it is a parameter.
    """

    def __init__(self, widest: int = WIDEST) -> None:
        self.known: dict[EndpointKey, EndpointCount] = {}
        self.lost: dict[EndpointKey, EndpointCount] = {}
        """What answered 404 and has no route: shown only if it answers something else, too."""
        self.further = 0
        """Requests of endpoints beyond the most that are kept."""
        self.not_found = 0
        """Those of `lost` for which there was no room."""
        self._widths = Widths(widest)
        self._spelled: dict[EndpointKey, Template] = {}
        """Method and shape -> how the endpoint is spelled."""

    def find(
        self, method: str | None, template: Template, *, routed: bool, lost: bool
    ) -> tuple[Template, EndpointCount | None]:
        """How a request's endpoint is spelled, and where it is counted; None if there is no room for it.

        Args:
            method: of the request.
            template: its path.
            routed: whether the framework named it; otherwise places with many words become parameters.
            lost: whether it was answered with 404 and has no route.
        """
        among = self.lost if lost else self.known
        if not routed:
            learn = not lost and len(among) < MOST_ENDPOINTS
            template, grown = self._widths.settle(template, learn=learn)
            if grown:
                self._settle_again()
        template = self._spelled.get((method, shape(template)), template)
        key = (method, template)
        if key in self.known:
            return template, self.known[key]
        if key not in among:
            if len(among) >= MOST_ENDPOINTS:
                self.not_found += lost
                self.further += not lost
                return template, None
            self._spelled[method, shape(template)] = template
            among[key] = EndpointCount(statuses=Counter())
        return template, among[key]

    def finish(self) -> None:
        """Decide about what answered 404; nothing may be found afterwards."""
        for key, count in self.lost.items():
            if key in self.known:
                self.known[key].merge(count)
            else:
                self.not_found += count.requests
        self.lost.clear()

    def _settle_again(self) -> None:
        """A place of paths has become a parameter: endpoints that differed only there are one."""
        self._spelled.clear()
        for endpoints in (self.known, self.lost):
            before = list(endpoints.items())
            endpoints.clear()
            # Those that a framework has named keep their names.
            for (method, old), count in sorted(before, key=lambda one: not one[1].of_framework):
                new = old if count.of_framework else self._widths.settle(shape(old), learn=False)[0]
                new = self._spelled.setdefault((method, shape(new)), new)
                count.usable = _renamed(count.usable, old, new)
                if (method, new) in endpoints:
                    endpoints[method, new].merge(count)
                else:
                    endpoints[method, new] = count


def _renamed(usable: Mapping[Place, int], old: Template, new: Template) -> Counter[Place]:
    """What was counted at the parameters of one template, at those of another one of the same length."""
    names = path_places(new)
    moved = {place: names[index] for index, place in path_places(old).items()}
    renamed: Counter[Place] = Counter()
    for place, number in usable.items():
        renamed[moved.get(place, place)] += number
    return renamed
