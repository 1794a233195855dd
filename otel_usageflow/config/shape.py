"""What a component's JSON schema says about a place in its configuration: known keys, and what is secret."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel

from otel_usageflow.config.place import Place

Schema = dict[str, Any]


class Shape:
    """The JSON schema of one configuration model, to be asked by place.

    Where the schema leaves a choice, every branch counts: a place is secret when any branch says so.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.definitions: dict[str, Schema] = schema.get("$defs", {})

    def keys(self, place: Place, branch: str | None = None) -> set[str]:
        """The keys that are known at a place, or in one branch of the choice there, named by its model."""
        schemas = [self.definitions[branch]] if branch in self.definitions else self._at(place)
        return {key for schema in schemas for key in schema.get("properties", ())}

    def is_secret(self, place: Place) -> bool:
        """Whether the value at a place is a secret."""
        return any(schema.get("writeOnly") for schema in self._at(place))

    def may_hold_secret(self, place: Place) -> bool:
        """Whether the value at a place is a secret, could have one below it, or stands where nothing is known."""
        if any(self.is_secret(place[:depth]) for depth in range(len(place) + 1)):
            return True
        found = self._at(place)
        return not found or any(self._holds_secret(schema, frozenset()) for schema in found)

    def secrets(self, data: Any) -> Iterator[Place]:
        """The places of all secrets in the data."""
        yield from self._secrets(data, (), list(self._branches(self.schema)))

    def _secrets(self, data: Any, place: Place, found: list[Schema]) -> Iterator[Place]:
        """The same below a place, of which the schemas are found already."""
        if any(schema.get("writeOnly") for schema in found):
            yield place
        elif found and isinstance(data, dict):
            for key, value in data.items():
                yield from self._secrets(value, (*place, key), self._step(found, key))
        elif found and isinstance(data, list):
            for index, value in enumerate(data):
                yield from self._secrets(value, (*place, index), self._step(found, index))

    def _at(self, place: Place) -> list[Schema]:
        found = list(self._branches(self.schema))
        for step in place:
            found = self._step(found, step)
        return found

    def _step(self, found: list[Schema], step: str | int) -> list[Schema]:
        return [branch for schema in found for below in _below(schema, step) for branch in self._branches(below)]

    def _branches(self, schema: Schema) -> Iterator[Schema]:
        if "$ref" in schema:
            yield from self._branches(self.definitions[schema["$ref"].rpartition("/")[2]])
        yield schema
        for word in ("anyOf", "oneOf", "allOf"):
            for branch in schema.get(word, ()):
                yield from self._branches(branch)

    def _holds_secret(self, schema: Schema, seen: frozenset[int]) -> bool:
        if id(schema) in seen:
            return False
        seen = seen | {id(schema)}
        return any(
            branch.get("writeOnly") or any(self._holds_secret(below, seen) for below in _all_below(branch))
            for branch in self._branches(schema)
        )


def _below(schema: Schema, step: str | int) -> Iterator[Schema]:
    if isinstance(step, int):
        prefix = schema.get("prefixItems", [])
        items = prefix[step] if step < len(prefix) else schema.get("items")
        if isinstance(items, dict):
            yield items
    elif step in schema.get("properties", {}):
        yield schema["properties"][step]
    else:
        if isinstance(schema.get("additionalProperties"), dict):
            yield schema["additionalProperties"]
        yield from schema.get("patternProperties", {}).values()


def _all_below(schema: Schema) -> Iterator[Schema]:
    yield from schema.get("properties", {}).values()
    yield from schema.get("patternProperties", {}).values()
    yield from schema.get("prefixItems", ())
    yield from (schema[word] for word in ("items", "additionalProperties") if isinstance(schema.get(word), dict))


@cache
def shape_of(model: type[BaseModel]) -> Shape:
    """The shape of a configuration model."""
    return Shape(model.model_json_schema())
