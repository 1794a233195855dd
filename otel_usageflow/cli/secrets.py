"""Secrets that a command really needs, of a configuration that was read without asking for all of them."""

from otel_usageflow.component import Kind
from otel_usageflow.config.model import Config
from otel_usageflow.errors import ConfigErrors, ConfigProblem


def need_secrets_of(config: Config, kind: Kind, id_: str) -> None:
    """Refuse to work with a stand-in for a secret of this component.

    Raises:
        ConfigErrors: the environment variable of one is not set.
    """
    problems = []
    for place in config.secrets:
        if place[:2] == (kind.value, id_):
            value: object = config.written
            for step in place:
                value = value[step]  # type: ignore[index]
            if not str(value or "").strip():
                problems.append(
                    ConfigProblem("::".join(map(str, place)), "is required; its environment variable is not set")
                )
    if problems:
        raise ConfigErrors(problems)
