"""Which policies a SERVER span meets: decided from its attributes, its resource and its scope alone.

So what is decided once holds for every span that says the same; see `alike.py`.
"""

from collections.abc import Sequence
from typing import Final

from otel_usageflow.model.attributes import Found
from otel_usageflow.model.spans import Span
from otel_usageflow.policy import graphql, grpc, http
from otel_usageflow.policy.alike import NO_REQUEST, Decision, Scene, Step
from otel_usageflow.policy.calls import CallTable, Protocol
from otel_usageflow.policy.match import Selection, holds
from otel_usageflow.policy.paths import Leaf, PathTree
from otel_usageflow.policy.policy import Policy
from otel_usageflow.policy.request import GrpcCall, HttpRequest


class Routes:
    """All endpoints of a set of policies. Keeps no state between requests; may be used by several threads."""

    __slots__ = ("_graphql", "_grpc", "_tree", "keys")

    def __init__(self, policies: Sequence[Policy]) -> None:
        conditions = {index: policy.conditions for index, policy in enumerate(policies)}
        entries = [(endpoint, index) for index, policy in enumerate(policies) for endpoint in policy.endpoints]
        self._tree = PathTree(entries, lambda chosen: Selection(chosen, conditions))
        calls = [(endpoint, index) for index, policy in enumerate(policies) for endpoint in policy.calls]
        tables = {
            protocol: CallTable(chosen, lambda chosen: Selection(chosen, conditions))
            for protocol in Protocol
            if (chosen := [entry for entry in calls if entry[0].protocol is protocol])
        }
        self._grpc, self._graphql = tables.get(Protocol.GRPC), tables.get(Protocol.GRAPHQL)
        self.keys: Final = http.BASE_KEYS.union(
            grpc.KEYS if self._grpc is not None else (),
            graphql.KEYS if self._graphql is not None else (),
            *(condition.span_keys for policy in policies for condition in policy.conditions),
        )
        """The span attributes that decide."""

    def decide(self, policies: Sequence[Policy], span: Span, found: Found, scene: Scene) -> Decision:
        """What becomes of a span under these policies, which have the endpoints and conditions of those above."""
        origin = scene.origin
        if not http.is_http(found):
            if self._grpc is None or not grpc.is_grpc(found):
                return NO_REQUEST
            call = GrpcCall(span, found, origin)
            candidates = _merged((), self._grpc.find(*grpc.method(found)), call)
            return _decision(policies, candidates, call, grpc.status(found), scene)
        path = http.segments(found, origin.scope)
        leaves = self._tree.by_route(http.route(found)) if path is None else self._tree.by_path(path)
        operations = self._graphql.find(*named) if self._graphql and (named := graphql.operation(found)) else ()
        request = HttpRequest(span, found, origin, http.method(found), path)
        candidates = _candidates(leaves, request)
        if operations:
            candidates = _merged(candidates, operations, request)
        return _decision(policies, candidates, request, http.status(found), scene)


def _decision(
    policies: Sequence[Policy],
    candidates: Sequence[int],
    request: HttpRequest,
    status: int | str | None,
    scene: Scene,
) -> Decision:
    steps: list[Step] = []
    taken: set[str] = set()
    certain = True
    for index in candidates:
        policy = policies[index]
        event_name = policy.terms.event_name
        if event_name in taken or not holds(policy.conditions, request):
            continue
        if policy.open:
            certain = False
        else:
            taken.add(event_name)
        steps.append(Step(policy, status in policy.statuses, scene.users_of(index)))
    plain = certain and all(step.policy.plain for step in steps)
    return Decision(True, isinstance(request, GrpcCall), request.method, request.path, steps, certain, plain)


def _candidates(leaves: Sequence[Leaf], request: HttpRequest) -> Sequence[int]:
    """The policies whose endpoint fits, in order; some whose `match` does not hold are left out already."""
    if len(leaves) == 1:
        return leaves[0].of(request.method).pick(request)
    return sorted({index for leaf in leaves for index in leaf.of(request.method).pick(request)})


def _merged(candidates: Sequence[int], selections: Sequence[Selection], request: HttpRequest) -> Sequence[int]:
    return sorted({*candidates, *(index for selection in selections for index in selection.pick(request))})
