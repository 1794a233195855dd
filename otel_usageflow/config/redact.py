"""Writing a configuration as YAML, without its secrets."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import yaml

from otel_usageflow.config.place import Place, replaced, value_at

REDACTED = "[REDACTED]"

_EXPANDED_AGAIN = re.compile(r"\$(?=[${])")


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper; decimals are plain numbers, and nothing is written as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write what occurs twice twice."""
        return True


def _decimal(dumper: _Dumper, value: Decimal) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", format(value, "f"))


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", _EXPANDED_AGAIN.sub("$$", value))


_Dumper.add_representer(Decimal, _decimal)
_Dumper.add_representer(str, _text)


def redacted_tree(written: Mapping[str, Any], secrets: Iterable[Place]) -> dict[str, Any]:
    """A copy of the configuration without its secrets."""
    tree: Any = dict(written)
    for place in secrets:
        if value_at(tree, place) not in (None, ""):
            tree = replaced(tree, place, REDACTED)
    return dict(tree)


def redacted(written: Mapping[str, Any], secrets: Iterable[Place]) -> str:
    """Write a configuration as YAML that reads back as itself, but for its secrets."""
    tree = redacted_tree(written, secrets)
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
