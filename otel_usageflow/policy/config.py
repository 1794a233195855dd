"""A policy as it is written in the configuration."""

from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from otel_usageflow.config.types import ConfigModel
from otel_usageflow.policy.calls import parse_any_endpoint, status_problem
from otel_usageflow.policy.expressions.expression import condition
from otel_usageflow.policy.fields import Comparables, Name, Names, OneOrMany, Statuses
from otel_usageflow.policy.http import host_only
from otel_usageflow.policy.quantity_config import QuantityConfig, QuantityRule, TraceWait
from otel_usageflow.policy.request_id import RequestIdRule
from otel_usageflow.policy.sources.body import BODY_ATTRIBUTE
from otel_usageflow.policy.sources.catalogue import UserSource

RESERVED_PAYLOAD: Final = frozenset({"stripe_customer_id", "value"})
"""Keys of a meter event that say who and how much, in Stripe's default names."""


def _endpoint(value: str) -> str:
    parse_any_endpoint(value)
    return value


def _host(value: str) -> str:
    if "/" in value:
        raise ValueError(f"{value!r} is not a host; write only the name, as in api.example.com")
    return host_only(value)


def _condition(value: str) -> str:
    condition(value)
    return value


EndpointText = Annotated[str, AfterValidator(_endpoint)]
Hosts = Annotated[tuple[Annotated[Name, AfterValidator(_host)], ...], OneOrMany()]


class MatchConfig(ConfigModel):
    """What narrows a policy beyond its endpoint; all that is written must hold."""

    service: Names | None = Field(default=None, description="service.name of the resource")
    scope: Names | None = Field(default=None, description="the instrumentation scope's name")
    host: Hosts | None = Field(default=None, description="the host that was asked for, without its port")
    attributes: dict[Name, Comparables] = Field(
        default={}, description="attribute of the span, or else of the resource -> one or several values"
    )
    condition: Annotated[str, AfterValidator(_condition)] | None = Field(
        default=None,
        description="true or false, in CEL over attributes, resource and span",
        examples=["attributes.plan == 'pro' && span.status < 300"],
    )


class CustomerConfig(ConfigModel):
    """How the user leads to the Stripe customer."""

    metadata_field: Name | None = Field(default=None, description="the customer metadata field that holds the user")
    id: bool = Field(default=False, description="true where the user is a Stripe customer id already")

    @model_validator(mode="after")
    def _either(self) -> "CustomerConfig":
        if (self.metadata_field is None) == (not self.id):
            raise ValueError(
                "write either metadata_field: NAME, or id: true when the user already is a Stripe customer id"
            )
        return self


class AttributeConfig(ConfigModel):
    """A value taken from an attribute."""

    attribute: Name


class PolicyConfig(ConfigModel):
    """One policy: which requests, whose they are, and what they are billed as."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.-]+$")] = Field(description="unique")
    endpoint: Annotated[tuple[EndpointText, ...], OneOrMany()] = Field(
        description="METHOD /path, grpc package.Service/Method, graphql TYPE NAME, or a list of them",
        examples=["POST /v1/chat/completions", "grpc shop.Orders/*", "graphql query Prices"],
    )
    match: MatchConfig = MatchConfig()
    status: Statuses = Field(
        default=("2xx",), description="which statuses are billed; of gRPC by name, such as NOT_FOUND"
    )
    user: Annotated[tuple[UserSource, ...], OneOrMany()] = Field(
        description="where the user is found; a list is tried in order"
    )
    customer: CustomerConfig
    event_name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)] = Field(
        description="the event name of the Stripe meter"
    )
    quantity: QuantityRule = Field(default=1, description="how much one request counts")
    payload: dict[Name, AttributeConfig] = Field(default={}, description="further keys for the meter event")
    account: Name | None = Field(default=None, description="the Stripe connected account; the exporter's by default")
    body_attribute: Name = Field(default=BODY_ATTRIBUTE, description="the attribute that holds the request's body")
    trace_wait: TraceWait | None = Field(
        default=None,
        description="how long a quantity from: trace waits for later spans; the processor's trace_wait by default",
    )

    request_id: RequestIdRule | None = Field(
        default=None,
        description="where the request's identity stands, or none; the processor's request_id by default",
    )

    @field_validator("status")
    @classmethod
    def _of_these_endpoints(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        problem = status_problem(map(parse_any_endpoint, info.data.get("endpoint", ())), value)
        if problem:
            raise ValueError(problem)
        return value

    @field_validator("payload")
    @classmethod
    def _no_reserved_key(cls, value: dict[str, AttributeConfig]) -> dict[str, AttributeConfig]:
        for key in value:
            if key in RESERVED_PAYLOAD:
                raise ValueError(f"{key} is what Stripe reads the customer and the quantity from; choose another key")
        return value

    @field_validator("trace_wait")
    @classmethod
    def _waits_for_something(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        quantity = info.data.get("quantity", 1)
        if value is not None and not (isinstance(quantity, QuantityConfig) and quantity.from_):
            raise ValueError("changes nothing without quantity: {from: trace, attributes: [KEY, ...]}")
        return value
