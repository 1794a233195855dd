"""Configuration of the processor `usage_policy`."""

from typing import Annotated, Literal

from pydantic import Field

from otel_usageflow.config.types import ConfigModel
from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.fields import Name
from otel_usageflow.policy.quantity_config import TRACE_WAIT, TraceWait
from otel_usageflow.policy.request_id import RequestIdRule


class UsagePolicyConfig(ConfigModel):
    """Which requests are billed, to whom, and as what."""

    policies: Annotated[tuple[PolicyConfig, ...], Field(min_length=1)] = Field(description="in order of precedence")
    placeholders: tuple[str, ...] = Field(
        default=(), description="further texts that stand in place of a user, for example anonymous"
    )
    exclude_scopes: tuple[Name, ...] = Field(
        default=(), description="instrumentation scopes whose spans are never requests"
    )
    request_id: RequestIdRule = Field(
        default="none",
        description="the header or attribute whose value is a request's identity; a policy may differ",
        examples=[{"header": "x-request-id"}],
    )
    trace_wait: TraceWait = Field(
        default=TRACE_WAIT,
        description="how long a quantity from: trace waits for spans after the request's end; a policy may differ",
    )
    sampling: Literal["as_received", "adjust"] = Field(
        default="as_received",
        description="how sampled requests count: each that arrives once, or by the weight that its tracestate says",
    )
    max_sampling_weight: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1000, description="under adjust: what says that it stands for more requests is quarantined"
    )
