"""The policies that `preview` bills by: of one configuration, or of two that are compared."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from otel_usageflow.cli.secrets import need_secrets_of
from otel_usageflow.component import Kind
from otel_usageflow.config.model import Config
from otel_usageflow.errors import ConfigErrors, ConfigProblem, StartError, UsageError

if TYPE_CHECKING:
    from otel_usageflow.policy.engine import PolicyEngine


def engine(files: Sequence[str], sets: Sequence[str], processor: str | None) -> "PolicyEngine":
    """The policies of one configuration, compiled; its warnings go to standard error.

    Args:
        files: later ones win.
        sets: `key::path=value` arguments, over all files.
        processor: which `usage_policy` processor, where several are configured.

    Raises:
        ConfigErrors: everything that is wrong with the configuration.
        UsageError: it is not clear which processor is meant.
        StartError: keys that verify tokens cannot be read or fetched.
    """
    return _compiled(files, sets, processor, "")


def engines(
    files: Sequence[str], against: Sequence[str], sets: Sequence[str], processor: str | None
) -> tuple["PolicyEngine", "PolicyEngine"]:
    """The policies of two configurations; whatever is said of one of them names its file.

    Raises:
        ConfigErrors: everything that is wrong with both.
        UsageError, StartError: as for one.
    """
    made: list[PolicyEngine] = []
    problems: list[ConfigProblem] = []
    for sources, over in ((files, sets), (against, ())):
        name = ", ".join(sources)
        try:
            made.append(_compiled(sources, over, processor, f"{name}: " if name else ""))
        except ConfigErrors as error:
            problems += [_named(problem, name, sources) for problem in error.problems]
        except UsageError as error:
            problems.append(ConfigProblem("", f"{name}: {error}"))
        except StartError as error:
            raise StartError(f"{name}: {error}") from None
    if problems:
        raise ConfigErrors(problems)
    return made[0], made[1]


def _named(problem: ConfigProblem, name: str, sources: Sequence[str]) -> ConfigProblem:
    if not name or (not problem.path and problem.message.startswith(tuple(sources))):
        return problem  # it names its file already, or there is none
    return ConfigProblem("", f"{name}: {problem}")


def _compiled(files: Sequence[str], sets: Sequence[str], processor: str | None, name: str) -> "PolicyEngine":
    from otel_usageflow.components import registry
    from otel_usageflow.config.load import load
    from otel_usageflow.processors.usage_policy import UsagePolicyConfig, compile_engine

    config = load(files, sets, registry(), need_secrets=False)
    chosen = config.processors[_processor(config, processor)]
    need_secrets_of(config, Kind.PROCESSOR, chosen.id)
    assert isinstance(chosen.config, UsagePolicyConfig)
    made = compile_engine(chosen.config)
    for warning in config.warnings:
        sys.stderr.write(f"warning: {name}{warning}\n")
    return made


def _processor(config: Config, wanted: str | None) -> str:
    known = [id_ for id_, one in config.processors.items() if one.factory.name == "usage_policy"]
    used = [id_ for id_ in config.used(Kind.PROCESSOR) if id_ in known] or known
    if wanted is not None:
        if wanted not in known:
            raise UsageError(
                f"{wanted} is no usage_policy processor of this configuration (configured: {', '.join(known)})"
            )
        return wanted
    if not used:
        raise UsageError("the configuration has no usage_policy processor, so there is nothing to bill by")
    if len(used) > 1:
        raise UsageError(f"there are several usage_policy processors; choose one with --processor: {', '.join(used)}")
    return used[0]
