"""The JSON schema of the whole configuration, made from the components' models, for editors to complete YAML."""

from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from otel_usageflow.component import Kind
from otel_usageflow.config.model import Registry, ServiceConfig
from otel_usageflow.config.types import format_duration

Schema = dict[str, Any]

_EXPANSION = r"\$\{"
_DESCRIPTIONS = {
    Kind.RECEIVER: "take spans in",
    Kind.PROCESSOR: "turn spans into usage",
    Kind.EXPORTER: "take over the responsibility for usage",
    Kind.EXTENSION: "serve other components or the operator",
}


class _Generator(GenerateJsonSchema):
    """Shows default durations in the form in which they are written."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def schema(registry: Registry) -> Schema:
    """The schema for a configuration of these components (JSON Schema, draft 2020-12)."""
    definitions: dict[str, Schema] = {}
    sections = {kind.value: _section(kind, registry, definitions) for kind in Kind}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "otel_usageflow configuration",
        "type": "object",
        "properties": {**sections, "service": _named(ServiceConfig, "service", definitions)},
        "required": [Kind.RECEIVER.value, Kind.PROCESSOR.value, Kind.EXPORTER.value, "service"],
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def _section(kind: Kind, registry: Registry, definitions: dict[str, Schema]) -> Schema:
    patterns = {
        f"^{name}(/.+)?$": _named(factory.config, f"{kind.value}.{name}", definitions)
        for name, factory in registry[kind].items()
    }
    return {
        "description": f"Components that {_DESCRIPTIONS[kind]}; ids are type or type/name.",
        "type": "object",
        "patternProperties": patterns,
        "additionalProperties": False,
    }


def _named(model: Any, name: str, definitions: dict[str, Schema]) -> Schema:
    """File a model's schema, and all that it refers to, under names that begin with `name`."""
    whole = _adapted(model.model_json_schema(schema_generator=_Generator), name)
    for inner, definition in whole.pop("$defs", {}).items():
        definitions[f"{name}.{inner}"] = definition
    definitions[name] = {**whole, "type": ["object", "null"]} if whole.get("type") == "object" else whole
    return {"$ref": f"#/$defs/{name}"}


def _adapted(schema: Any, name: str) -> Any:
    """Point references to their new names, and let `${env:NAME}` stand for anything that is no text."""
    if isinstance(schema, list):
        return [_adapted(item, name) for item in schema]
    if not isinstance(schema, dict):
        return schema
    adapted = {key: _adapted(value, name) for key, value in schema.items()}
    if isinstance(adapted.get("$ref"), str):
        adapted["$ref"] = f"#/$defs/{name}.{adapted['$ref'].rpartition('/')[2]}"
    if adapted.get("type") in ("integer", "number", "boolean", "array"):
        adapted |= {"type": [adapted["type"], "string"], "pattern": _EXPANSION}
    return adapted
