"""Several sources of configuration become one: later wins, maps merge deeply, everything else is replaced.

Source of the rules: the Collector's confmap (lists are replaced as a whole, null replaces a map).
"""

from typing import Any

from otel_usageflow.config.yaml_reader import NotYaml, read_yaml


def merge(base: Any, over: Any) -> Any:
    """Lay `over` on `base`; neither is changed."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {
        **base,
        **{key: merge(base[key], value) if key in base else value for key, value in over.items()},
    }


def parse_set(argument: str) -> dict[str, Any]:
    """Read one `--set key::path=value`; dots part the keys where there is no `::`. The value is YAML.

    Raises:
        ValueError: it has no such form. The message does not quote the value.
    """
    path, equals, text = argument.partition("=")
    keys = [key.strip() for key in (path.split("::") if "::" in path else path.split("."))]
    if not equals:
        raise ValueError("has no equal sign; write --set key::path=value")
    if not all(keys):
        raise ValueError(f"has an empty key in {path!r}; write --set key::path=value")
    try:
        value = read_yaml(text)
    except NotYaml as error:
        raise ValueError(f"{path}: the value {error}" if error.line is None else f"{path}: {error}") from None
    for key in reversed(keys):
        value = {key: value}
    assert isinstance(value, dict)
    return value
