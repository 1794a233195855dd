"""Endpoints that are no paths: gRPC methods and GraphQL operations, as `grpc shop.Orders/Get`."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from otel_usageflow.policy.endpoint import Endpoint, parse_endpoint_text
from otel_usageflow.policy.graphql import TYPES
from otel_usageflow.policy.grpc import CODES
from otel_usageflow.policy.match import Selection


class Protocol(StrEnum):
    """What an endpoint begins with."""

    GRPC = "grpc"
    GRAPHQL = "graphql"


@dataclass(frozen=True, slots=True)
class CallEndpoint:
    """One gRPC method or GraphQL operation of a policy, or all of a service or type."""

    protocol: Protocol
    group: str | None
    """The service, or the operation's type; None for any."""
    name: str | None
    """The method, or the operation's name; None for any."""
    text: str
    """As it was written."""


AnyEndpoint = Endpoint | CallEndpoint

_SERVICE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def parse_any_endpoint(text: str) -> AnyEndpoint:
    """Read `METHOD /path`, `grpc package.Service/Method` or `graphql TYPE NAME`.

    Raises:
        ValueError: it is none; the message shows a right one.
    """
    words = text.split()
    match words[0].lower() if words else "":
        case Protocol.GRPC:
            return _grpc(words[1:], text)
        case Protocol.GRAPHQL:
            return _graphql(words[1:], text)
    return parse_endpoint_text(text)


def _grpc(words: Sequence[str], text: str) -> CallEndpoint:
    if list(words) == ["*"]:
        return CallEndpoint(Protocol.GRPC, None, None, text)
    service, slash, name = words[0].removeprefix("/").partition("/") if len(words) == 1 else ("", "", "")
    if not slash or not _SERVICE.fullmatch(service) or (name != "*" and not _WORD.fullmatch(name)):
        raise ValueError(
            f"{text!r} is not a gRPC endpoint; write the service with its package and the method, as in "
            "`grpc shop.Orders/Get`, `grpc shop.Orders/*` for all methods of a service, or `grpc *`"
        )
    return CallEndpoint(Protocol.GRPC, service, None if name == "*" else name, text)


def _graphql(words: Sequence[str], text: str) -> CallEndpoint:
    kind, name = (words[0].lower(), words[1]) if len(words) == 2 else ("", "")
    if list(words) == ["*"]:
        kind, name = "*", "*"
    if kind not in (*TYPES, "*") or (name != "*" and not _WORD.fullmatch(name)):
        raise ValueError(
            f"{text!r} is not a GraphQL endpoint; write query, mutation, subscription or * and the operation's name "
            "or *, as in `graphql query Prices` or `graphql mutation *`"
        )
    return CallEndpoint(Protocol.GRAPHQL, None if kind == "*" else kind, None if name == "*" else name, text)


class CallTable:
    """The endpoints of one protocol of all policies; finds those that fit in four looks, however many there are."""

    __slots__ = ("_selections",)

    def __init__(
        self, entries: Iterable[tuple[CallEndpoint, int]], select: Callable[[Sequence[int]], Selection]
    ) -> None:
        chosen: dict[tuple[str | None, str | None], set[int]] = {}
        for endpoint, policy in entries:
            chosen.setdefault((endpoint.group, endpoint.name), set()).add(policy)
        self._selections = {place: select(sorted(policies)) for place, policies in chosen.items()}

    def find(self, group: str | None, name: str | None) -> list[Selection]:
        """The policies that take a call; None is what the span does not say, and fits only what takes any."""
        places = dict.fromkeys(((group, name), (group, None), (None, name), (None, None)))
        return [self._selections[place] for place in places if place in self._selections]


def status_problem(endpoints: Iterable[AnyEndpoint], statuses: Iterable[str]) -> str | None:
    """What is wrong with these status rules for these endpoints; None if nothing is."""
    calls = [isinstance(one, CallEndpoint) and one.protocol is Protocol.GRPC for one in endpoints]
    named = [rule for rule in statuses if rule in CODES]
    numbers = [rule for rule in statuses if rule not in CODES and rule not in ("2xx", "any")]
    both = any(rule in ("2xx", "any") for rule in statuses)
    if named and not any(calls):
        return f"{named[0]} is a gRPC status, and no endpoint is a gRPC method; write an HTTP status such as 2xx"
    if numbers and all(calls):
        return (
            f"{numbers[0]} is an HTTP status, and all endpoints are gRPC methods; write the names of gRPC statuses, "
            "as in [OK, NOT_FOUND]; 2xx stands for OK"
        )
    if any(calls) and not all(calls) and not both and not (named and numbers):
        missing = "HTTP" if named else "gRPC"
        return (
            f"there are HTTP and gRPC endpoints, and no {missing} status; write both, as in [404, NOT_FOUND], or "
            "2xx, which stands for OK, too"
        )
    return None
