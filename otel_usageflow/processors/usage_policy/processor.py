"""The processor: holds the compiled policies, and asks them."""

from types import TracebackType

from otel_usageflow.component import Context
from otel_usageflow.errors import StartError
from otel_usageflow.model.usage import UsageBatch
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.policy import compile_policy
from otel_usageflow.policy.text import PLACEHOLDERS
from otel_usageflow.processors.usage_policy.config import UsagePolicyConfig


def compile_engine(config: UsagePolicyConfig) -> PolicyEngine:
    """Compile a set of policies.

    Raises:
        StartError: a key file cannot be used.
    """
    placeholders = PLACEHOLDERS.union(text.strip() for text in config.placeholders)
    try:
        policies = [compile_policy(policy, placeholders) for policy in config.policies]
    except ValueError as error:
        raise StartError(str(error)) from None
    return PolicyEngine(policies, frozenset(config.exclude_scopes))


class UsagePolicyProcessor:
    """Turns spans into usage records by policy."""

    def __init__(self, config: UsagePolicyConfig, _context: Context) -> None:
        self._engine = compile_engine(config)
        self.terms = tuple(policy.terms for policy in self._engine.policies)
        """What the policies bill."""

    async def __aenter__(self) -> "UsagePolicyProcessor":
        """Start; there is nothing to open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; there is nothing to close."""

    def process(self, payload: bytes, received_ns: int) -> UsageBatch:
        """Decide what is billed in one serialized `ExportTraceServiceRequest`.

        Raises:
            InvalidData: the payload is no such message.
        """
        return self._engine.evaluate(payload, received_ns)
