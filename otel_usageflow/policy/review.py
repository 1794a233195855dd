"""What is wrong between the policies of a set, and what can hardly be meant."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from otel_usageflow.errors import ConfigProblem
from otel_usageflow.policy.calls import AnyEndpoint, CallEndpoint, Protocol, parse_any_endpoint
from otel_usageflow.policy.config import MatchConfig, PolicyConfig
from otel_usageflow.policy.endpoint import Endpoint
from otel_usageflow.policy.http import RPC
from otel_usageflow.policy.jwt_config import Verify
from otel_usageflow.policy.jwt_review import token_remarks
from otel_usageflow.policy.shadowing import Earlier
from otel_usageflow.policy.sources.api_key import ApiKeySource
from otel_usageflow.policy.sources.jwt import JwtSource
from otel_usageflow.policy.sources.path import PathSource
from otel_usageflow.policy.sources.query import QuerySource
from otel_usageflow.policy.sources.source import Source
from otel_usageflow.policy.sources.template import TemplateSource


def problems(policies: Sequence[PolicyConfig]) -> Iterator[ConfigProblem]:
    """What makes the set unusable: a name twice, a path parameter that no endpoint has, a key that is none."""
    first: dict[str, int] = {}
    for index, policy in enumerate(policies):
        place = f"policies::{index}"
        if policy.name in first:
            yield ConfigProblem(
                f"{place}::name",
                f"{policy.name} is the name of policies::{first[policy.name]} already; choose another",
            )
        first.setdefault(policy.name, index)
        for number, source in enumerate(policy.user):
            for path, key in _paths(source):
                yield from _path_problems(path, policy, f"{place}::user{_position(policy, number)}::{key}")
            if isinstance(source, JwtSource) and isinstance(source.jwt.verify, Verify):
                try:
                    source.jwt.verify.check()
                except ValueError as error:
                    yield ConfigProblem(f"{place}::user{_position(policy, number)}::jwt::verify", str(error))


def remarks(policies: Sequence[PolicyConfig], exclude_scopes: Sequence[str]) -> Iterator[ConfigProblem]:
    """What does not stop the service: policies that never bill, and sources that never answer."""
    endpoints = [[parse_any_endpoint(text) for text in policy.endpoint] for policy in policies]
    earlier: defaultdict[str, Earlier] = defaultdict(Earlier)
    for index, policy in enumerate(policies):
        place = f"policies::{index}"
        calls = any(map(_is_grpc, endpoints[index]))
        if why := _never(policy.match, exclude_scopes, calls=calls):
            yield ConfigProblem(place, f"the policy {policy.name} never matches: {why}")
        elif by := earlier[policy.event_name].taking_all_of(policy, endpoints[index]):
            names = " and ".join(policies[one].name for one in by)
            yield ConfigProblem(
                place,
                f"the policy {policy.name} never bills: {names} stands before it, has the same event_name "
                f"{policy.event_name}, and takes all of its requests; put {policy.name} first, or narrow the other",
            )
        earlier[policy.event_name].add(index, policy, endpoints[index])
        yield from _source_remarks(policy, endpoints[index], place)


def _paths(source: Source) -> list[tuple[PathSource, str]]:
    """The path parameters that a source reads, and the keys below it that say so."""
    parts = source.parts() if isinstance(source, TemplateSource) else (source,)
    return [(part, source.key()) for part in parts if isinstance(part, PathSource)]


def _path_problems(source: PathSource, policy: PolicyConfig, place: str) -> Iterator[ConfigProblem]:
    if not any(source.path in _parameters(parse_any_endpoint(text)) for text in policy.endpoint):
        yield ConfigProblem(
            place,
            f"no endpoint of {policy.name} has a parameter {source.path}; write it as in {_example(policy, source)}",
        )


def _example(policy: PolicyConfig, source: PathSource) -> str:
    first = parse_any_endpoint(policy.endpoint[0])
    method = first.text.split()[0] if isinstance(first, Endpoint) else "POST"
    return f"`{method} /accounts/:{source.path}`"


def _parameters(endpoint: AnyEndpoint) -> list[str]:
    return endpoint.parameters() if isinstance(endpoint, Endpoint) else []


def _source_remarks(policy: PolicyConfig, endpoints: list[AnyEndpoint], place: str) -> Iterator[ConfigProblem]:
    sources = [(f"{place}::user{_position(policy, number)}", source) for number, source in enumerate(policy.user)]
    yield from token_remarks(
        [(f"{below}::jwt", source.jwt) for below, source in sources if isinstance(source, JwtSource)]
    )
    for below, source in sources:
        for path, key in _paths(source):
            without = [endpoint.text for endpoint in endpoints if path.path not in _parameters(endpoint)]
            if without and len(without) < len(endpoints):
                yield ConfigProblem(
                    f"{below}::{key}",
                    f"{' and '.join(without)} has no parameter {path.path}, so it finds no user there",
                )
        if _asks_for_a_query(source) and all(map(_is_grpc, endpoints)):
            yield ConfigProblem(f"{below}::{source.key()}", "a gRPC call has no query, so it finds no user there")
        if (
            isinstance(source, ApiKeySource)
            and source.api_key.header == "authorization"
            and not source.api_key.scheme
        ):
            yield ConfigProblem(
                f"{below}::api_key",
                "the digest includes the scheme that stands before the key; write scheme: bearer to leave it out",
            )


def _asks_for_a_query(source: Source) -> bool:
    if isinstance(source, ApiKeySource):
        return source.api_key.query is not None
    if isinstance(source, JwtSource):
        return source.jwt.query is not None
    return isinstance(source, QuerySource)


def _is_grpc(endpoint: AnyEndpoint) -> bool:
    return isinstance(endpoint, CallEndpoint) and endpoint.protocol is Protocol.GRPC


def _position(policy: PolicyConfig, number: int) -> str:
    return f"::{number}" if len(policy.user) > 1 else ""


def _never(match: MatchConfig, exclude_scopes: Sequence[str], *, calls: bool) -> str | None:
    if match.condition is not None and match.condition.strip() == "false":
        return "its condition is false"
    if match.scope and set(match.scope) <= set(exclude_scopes):
        return f"exclude_scopes takes all spans of the scope {' and '.join(match.scope)}"
    if not calls and any(key in RPC for key in match.attributes):
        return "a span with rpc.system is no HTTP request"
    named = match.attributes.get("service.name")
    if match.service and named and not set(match.service) & set(named):
        return "match::service and match::attributes ask for different services"
    return None
