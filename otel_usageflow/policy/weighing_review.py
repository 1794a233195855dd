"""What `sampling: adjust` cannot be used with."""

from collections.abc import Iterator, Sequence

from otel_usageflow.errors import ConfigProblem
from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.quantity_config import QuantityConfig


def weighing_problems(sampling: str, policies: Sequence[PolicyConfig]) -> Iterator[ConfigProblem]:
    """Quantities from local traces: a sampler may have kept or dropped each of their spans by itself, with its own
    weight, so there is no one number to multiply by.
    """
    if sampling != "adjust":
        return
    for index, policy in enumerate(policies):
        if isinstance(policy.quantity, QuantityConfig) and policy.quantity.from_ is not None:
            yield ConfigProblem(
                f"policies::{index}::quantity",
                f"{policy.name} sums over traces, which sampling: adjust cannot weigh; write sampling: as_received, "
                "or take the quantity from the request's own span",
            )
