"""Reading YAML strictly: no repeated keys, exact decimals, text that looks like text stays text.

Follows YAML 1.2 where YAML 1.1 surprises: only `true` and `false` are booleans, dates are text, and digits
with a leading zero are text too, because an account `0123` is not the number 83.
"""

import re
from collections.abc import Hashable
from decimal import Decimal
from typing import Any

import yaml


class NotYaml(ValueError):
    """The text is no YAML that can be used; `line` counts from 1, or is None when no line is to blame."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with fewer guesses."""

    yaml_implicit_resolvers = {}
    yaml_constructors = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in {"null", "bool", "str", "seq", "map"}
    }

    def get_single_data(self) -> Any:
        """Build everything at once, so that a structure that holds itself is an error."""
        node = self.get_single_node()
        return None if node is None else self.construct_object(node, deep=True)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping whose keys are text, as they were written; a key may stand there once."""
        seen: set[str] = set()
        for key_node, _value in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise NotYaml("a key must be plain text", key_node.start_mark.line + 1)
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.value in seen:
                raise NotYaml(
                    f"the key {key_node.value!r} stands here twice; keep one of the two",
                    key_node.start_mark.line + 1,
                )
            seen.add(key_node.value)
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


_FRACTION = r"(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
_EXPONENT = r"(?:0|[1-9][0-9]*)[eE][-+]?[0-9]{1,3}"
PLAIN_FORMS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+", list("-+0123456789")),
    ("float", f"[-+]?(?:{_FRACTION}|{_EXPONENT})", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
)
"""What plain text is read as something else: type, pattern, first characters. YAML 1.2's core schema, and merging."""
for _tag, _pattern, _first in PLAIN_FORMS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node), 0)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> Decimal:
    return Decimal(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def read_yaml(text: str) -> Any:
    """Read one YAML document.

    Returns:
        dict with text keys, list, str, int, Decimal, bool or None.

    Raises:
        NotYaml: a syntax error, a repeated key, a tag, more than one document, or nesting without end. The
            message never quotes values, because one of them may be a secret.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYaml(_problem(error), mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NotYaml("holds a character that YAML does not allow", line) from None
    except NotYaml:
        raise
    except (ValueError, ArithmeticError, KeyError):
        raise NotYaml("holds a number or a tag that cannot be read") from None
    except RecursionError:
        raise NotYaml("is nested too deeply") from None


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "not valid YAML"
    if "alias" in problem:
        return "refers to an anchor that is not defined (text that begins with * needs quotes)"
    if "expected a single document" in (error.context or ""):
        return "holds more than one document; put each in a file of its own"
    if "could not determine a constructor" in problem:
        return "uses a tag (!...), which a configuration cannot; put the text in quotes"
    if "cannot start any token" in problem:
        return f"{problem}; indent with spaces, and put text that begins with such a character in quotes"
    if "unconstructable recursive" in problem:
        return "holds a structure that contains itself"
    return problem
