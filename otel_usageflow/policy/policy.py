"""A policy, compiled: everything that its configuration says, ready to be asked about a request."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from otel_usageflow.model.usage import Quantity, Terms
from otel_usageflow.policy.calls import CallEndpoint, Protocol, parse_any_endpoint
from otel_usageflow.policy.config import MatchConfig, PolicyConfig
from otel_usageflow.policy.endpoint import Endpoint
from otel_usageflow.policy.expressions import expression
from otel_usageflow.policy.expressions.expression import Expression
from otel_usageflow.policy.fields import allowed_statuses
from otel_usageflow.policy.http import HOST_KEYS
from otel_usageflow.policy.jwt_trust import Trust
from otel_usageflow.policy.match import Condition, attribute_is, host_is, scope_is, service_is
from otel_usageflow.policy.quantity import bounded_total
from otel_usageflow.policy.quantity_config import TRACE_WAIT, QuantityConfig
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.request_id import Identify, RequestIdRule
from otel_usageflow.policy.sources.jwt import JwtSource
from otel_usageflow.policy.sources.source import Reader, Setting
from otel_usageflow.policy.spellings import spellings
from otel_usageflow.policy.text import plain_text
from otel_usageflow.policy.tokens import ABSENT, Summand, summand
from otel_usageflow.policy.trace_spans import TraceRule

MAX_PAYLOAD_LENGTH = 100
"""Characters of a payload value; Stripe takes no more."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One compiled policy."""

    terms: Terms
    endpoints: tuple[Endpoint, ...]
    calls: tuple[CallEndpoint, ...]
    """The endpoints that are no paths."""
    conditions: tuple[Condition, ...]
    condition: Expression | None
    """What the request must meet beyond `conditions`."""
    statuses: frozenset[int | str | None]
    """HTTP's by number, gRPC's by name."""
    readers: tuple[Reader, ...]
    quantity: Quantity | None
    """The fixed quantity, or None if `measure` has to be asked."""
    measure: Callable[[HttpRequest], Quantity | None]
    """The request's quantity, or None if it has none that can be billed."""
    summed: TraceRule | None
    """What is summed over the request's local trace, instead of `measure`."""
    identify: Identify | None
    """Reads the id of a request, where one is its identity."""
    payload_keys: tuple[tuple[str, tuple[str, ...]], ...]
    """(key in the meter event, the attribute in all of its spellings), sorted by key."""
    span_keys: frozenset[str]
    resource_keys: frozenset[str]
    user_keys: frozenset[str] = frozenset()
    """The span attributes that its readers read."""
    plain: bool = False
    """Whether its records differ by their span's ids and times and, as the attributes of their readers say, by their
    user alone."""
    unguarded: tuple[Reader, ...] = ()
    """Its readers, but for those of tokens, as they would read if placeholders were users."""
    foreign: bool = False
    """Whether it bills in another account than the one whose spans are looked at, so that none of them matches it."""

    @property
    def open(self) -> bool:
        """Whether there is more to ask than what its endpoints and `conditions` say."""
        return self.condition is not None or self.foreign

    def of_account(self, account: str) -> "Policy":
        """The policy as it is for spans that an ingest token has put under this account; empty for the own one."""
        if self.terms.account is not None and self.terms.account != account:
            return replace(self, foreign=True)
        return self if not account else replace(self, terms=replace(self.terms, account=account))

    def user(self, request: HttpRequest) -> tuple[str | None, str | None]:
        """The user and where it was found, or two None."""
        for reader in self.readers:
            user = reader.read(request)
            if user is not None:
                return user, reader.label
        return None, None

    def redacted(self, request: HttpRequest) -> bool:
        """Whether a request in which no user was found has a placeholder in its place."""
        return any(reader.read(request) is not None for reader in self.unguarded)

    def payload(self, request: HttpRequest) -> tuple[tuple[str, str], ...]:
        """The further keys for the meter event; those without a value are left out."""
        return tuple(
            (name, text[:MAX_PAYLOAD_LENGTH]) for name, keys in self.payload_keys if (text := _text(request, keys))
        )


def compile_policy(
    config: PolicyConfig,
    placeholders: frozenset[str],
    trust: Trust | None = None,
    trace_wait: timedelta = TRACE_WAIT,
    request_id: RequestIdRule = "none",
) -> Policy:
    """Prepare one policy.

    Args:
        config: what is written.
        placeholders: texts that are no user.
        trust: what verifies tokens, shared by all policies of a processor; one of its own if not given.
        trace_wait: how long spans of a request's trace are waited for, where the policy does not say.
        request_id: what the identity of a request is, where the policy does not say.

    Raises:
        ValueError: a key file cannot be used; the message says which and why.
    """
    written = [parse_any_endpoint(text) for text in config.endpoint]
    endpoints = tuple(one for one in written if isinstance(one, Endpoint))
    calls = tuple(one for one in written if isinstance(one, CallEndpoint))
    metadata = any(one.protocol is Protocol.GRPC for one in calls)
    setting = Setting(
        placeholders, endpoints, config.body_attribute, config.name, trust or Trust(fixed=True), metadata
    )
    rules = request_id if config.request_id is None else config.request_id
    identify = None if isinstance(rules, str) else Identify(rules, placeholders, metadata=metadata)
    readers = tuple(source.prepared(setting) for source in config.user)
    anything = replace(setting, placeholders=frozenset({""}))
    unguarded = tuple(source.prepared(anything) for source in config.user if not isinstance(source, JwtSource))
    payload_keys = tuple(sorted((name, spellings(rule.attribute)) for name, rule in config.payload.items()))
    both = frozenset[str]().union(*map(spellings, config.match.attributes), *(keys for _, keys in payload_keys))
    conditions = tuple(_conditions(config.match))
    condition = expression.condition(config.match.condition) if config.match.condition is not None else None
    measured: tuple[Summand, ...] = ()
    summed: TraceRule | None = None
    worked_out: Expression | None = None
    quantity: Quantity | None = None
    if not isinstance(config.quantity, QuantityConfig):
        quantity = config.quantity
    elif config.quantity.expression is not None:
        worked_out = expression.quantity(config.quantity.expression)
    elif config.quantity.from_ is not None:
        summed = _trace_rule(config, config.quantity, trace_wait)
    else:
        excluding = config.quantity.input_excludes_cache or ()
        measured = tuple(summand(key, excluding) for key in config.quantity.keys)
    expressions = [one for one in (condition, worked_out) if one is not None]
    lasting = all(reader.lasting for reader in readers)
    return Policy(
        terms=Terms(config.name, config.event_name, config.customer.metadata_field, config.account, quantity),
        endpoints=endpoints,
        calls=calls,
        conditions=conditions,
        condition=condition,
        statuses=allowed_statuses(config.status),
        readers=readers,
        quantity=quantity,
        measure=worked_out.amount if worked_out is not None else _measure(measured) if summed is None else _later,
        summed=summed,
        identify=identify,
        payload_keys=payload_keys,
        span_keys=both.union(
            *(one.keys for one in measured),
            HOST_KEYS if config.match.host else (),
            identify.keys if identify is not None else (),
            *(reader.span_keys for reader in readers),
            *(one.span_keys for one in expressions),
        ),
        resource_keys=both.union(
            *(reader.resource_keys for reader in readers), *(one.resource_keys for one in expressions)
        ),
        user_keys=frozenset().union(*(reader.span_keys for reader in readers)),
        unguarded=unguarded,
        plain=lasting and quantity is not None and identify is None and not payload_keys,
    )


def _conditions(match: MatchConfig) -> Iterator[Condition]:
    if match.service:
        yield service_is(match.service)
    if match.scope:
        yield scope_is(match.scope)
    if match.host:
        yield host_is(match.host)
    for key, texts in match.attributes.items():
        yield attribute_is(key, texts)


def _measure(summands: tuple[Summand, ...]) -> Callable[[HttpRequest], Quantity | None]:
    def measure(request: HttpRequest) -> Quantity | None:
        amounts = [one.amount(request.found) for one in summands]
        known = [amount for amount in amounts if amount is not None and amount is not ABSENT]
        return bounded_total(known) if len(known) == len(amounts) else None

    return measure


def _later(_request: HttpRequest) -> None:
    """The quantity of a request whose trace is summed: not known yet."""


def _trace_rule(config: PolicyConfig, quantity: QuantityConfig, trace_wait: timedelta) -> TraceRule:
    excluding, scopes = quantity.input_excludes_cache or (), quantity.scope or ()
    wait = trace_wait if config.trace_wait is None else config.trace_wait
    return TraceRule(
        summands=tuple(summand(key, excluding, scopes) for key in quantity.keys),
        scopes=frozenset(scopes) or None,
        services=frozenset(config.match.service) if config.match.service else None,
        wait_ns=wait // timedelta(microseconds=1) * 1_000,
    )


def _text(request: HttpRequest, keys: tuple[str, ...]) -> str | None:
    """The text of the first of these that the span has one of, or else the resource."""
    for read in (request.span_value, request.resource_value):
        for key in keys:
            if text := plain_text(read(key)):
                return text
    return None
