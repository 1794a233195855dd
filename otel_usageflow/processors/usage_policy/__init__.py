"""The processor `usage_policy`: policies decide which requests are billed, to whom, and as what."""

from otel_usageflow.component import Factory, Kind
from otel_usageflow.errors import ConfigProblem
from otel_usageflow.policy.review import problems, remarks
from otel_usageflow.policy.weighing_review import weighing_problems
from otel_usageflow.processors.usage_policy.config import UsagePolicyConfig
from otel_usageflow.processors.usage_policy.processor import UsagePolicyProcessor, compile_engine

__all__ = ["FACTORY", "UsagePolicyConfig", "compile_engine"]


def _check(config: UsagePolicyConfig) -> list[ConfigProblem]:
    return [*problems(config.policies), *weighing_problems(config.sampling, config.policies)]


def _warn(config: UsagePolicyConfig) -> list[ConfigProblem]:
    return list(remarks(config.policies, config.exclude_scopes))


FACTORY = Factory(
    kind=Kind.PROCESSOR,
    name="usage_policy",
    config=UsagePolicyConfig,
    build=UsagePolicyProcessor,
    check=_check,
    warn=_warn,
)
