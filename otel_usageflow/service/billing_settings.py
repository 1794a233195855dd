"""The settings of a configuration that decide about money, for the audit log; secrets never."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from otel_usageflow.component import Kind
from otel_usageflow.config.model import Config
from otel_usageflow.config.redact import redacted_tree


def billing_settings(config: Config) -> dict[str, object]:
    """The processors and exporters in use as they are written, and the pipelines between them, as JSON values."""
    tree = redacted_tree(config.written, config.secrets)
    kinds = (Kind.PROCESSOR, Kind.EXPORTER)
    settings: dict[str, object] = {
        kind.value: {id_: _json((tree.get(kind.value) or {}).get(id_)) for id_ in sorted(config.used(kind))}
        for kind in kinds
    }
    settings["pipelines"] = {
        name: {"processors": list(pipeline.processors), "exporters": list(pipeline.exporters)}
        for name, pipeline in sorted(config.pipelines.items())
    }
    return settings


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
