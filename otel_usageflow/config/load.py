"""From files, `--set` arguments and the environment to a checked configuration."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from otel_usageflow.config.check import check
from otel_usageflow.config.expand import expand
from otel_usageflow.config.merge import merge, parse_set
from otel_usageflow.config.model import Config, Registry
from otel_usageflow.config.yaml_reader import NotYaml, read_yaml
from otel_usageflow.errors import ConfigErrors, ConfigProblem


def load(
    sources: Sequence[str],
    sets: Sequence[str],
    registry: Registry,
    *,
    environment: Mapping[str, str] | None = None,
    need_secrets: bool = True,
) -> Config:
    """Read, merge, expand and check a configuration.

    Args:
        sources: files, later ones over earlier ones.
        sets: `key::path=value` arguments, over all files.
        registry: the components that exist.
        environment: what `${env:NAME}` reads; the process's environment by default.
        need_secrets: with False, a secret whose environment variable is not set is not missed; for commands
            that use none.

    Raises:
        ConfigErrors: everything that is wrong, with path, reason and remedy.
    """
    if not sources:
        raise ConfigErrors([ConfigProblem("", "no configuration was given; name a file with --config FILE")])
    problems: list[ConfigProblem] = []
    merged: dict[str, Any] = {}
    for source in sources:
        try:
            merged = merge(merged, read_source(source))
        except ValueError as error:
            problems.append(ConfigProblem("", str(error)))
    for argument in sets:
        try:
            merged = merge(merged, parse_set(argument))
        except ValueError as error:
            problems.append(ConfigProblem("--set", str(error)))
    if problems:
        raise ConfigErrors(problems)
    expanded = expand(merged, os.environ if environment is None else environment)
    return check(expanded, registry, need_secrets=need_secrets)


def read_source(source: str) -> dict[str, Any]:
    """Read one configuration file, unexpanded.

    Raises:
        ValueError: it cannot be read, or is no YAML mapping; the message names the file and the line.
    """
    try:
        text = Path(source).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{source}:{line}: is not UTF-8 text") from None
    except FileNotFoundError:
        raise ValueError(f"{source}: there is no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{source}: is a directory; name a file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{source}: cannot be read: {reason}") from None
    try:
        tree = read_yaml(text)
    except NotYaml as error:
        where = source if error.line is None else f"{source}:{error.line}"
        raise ValueError(f"{where}: {error}") from None
    if tree is None:
        raise ValueError(f"{source}: is empty; a configuration needs receivers, processors, exporters and service")
    if not isinstance(tree, dict):
        raise ValueError(f"{source}: must be a mapping (key: value) at the top, not {_form(tree)}")
    return tree


def _form(tree: Any) -> str:
    return "a list" if isinstance(tree, list) else "a single value"
