"""Writing a configuration as YAML, without its secrets."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import yaml

from otel_usageflow.config.place import Place, replaced, value_at
from otel_usageflow.config.yaml_reader import PLAIN_FORMS

REDACTED = "[REDACTED]"

_EXPANDED_AGAIN = re.compile(r"\$(?=[${])")


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper; decimals are plain numbers, and nothing is written as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write what occurs twice twice."""
        return True


def _decimal(dumper: _Dumper, value: Decimal) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", format(value, "f"))


_Dumper.add_representer(Decimal, _decimal)
# PyYAML puts quotes around text that looks like something else to YAML 1.1; here it is read by 1.2: 1e3, 0o7.
for _tag, _pattern, _first in PLAIN_FORMS:
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _literal(tree: Any) -> Any:
    """The same with dollars doubled that would be expanded again; those of keys never are."""
    if isinstance(tree, Mapping):
        return {key: _literal(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_literal(value) for value in tree]
    return _EXPANDED_AGAIN.sub("$$", tree) if isinstance(tree, str) else tree


def redacted_tree(written: Mapping[str, Any], secrets: Iterable[Place]) -> dict[str, Any]:
    """A copy of the configuration without its secrets."""
    tree: Any = dict(written)
    for place in secrets:
        if value_at(tree, place) not in (None, ""):
            tree = replaced(tree, place, REDACTED)
    return dict(tree)


def redacted(written: Mapping[str, Any], secrets: Iterable[Place]) -> str:
    """Write a configuration as YAML that reads back as itself, but for its secrets."""
    tree = _literal(redacted_tree(written, secrets))
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
