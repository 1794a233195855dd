"""Calls and answers held against Stripe's published OpenAPI, as far as tests/conformance/stripe_openapi has it."""

import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from recording_proxy import Exchange

FOLDER = Path(__file__).parents[1] / "conformance" / "stripe_openapi"
NULL_BY_EXAMPLE = frozenset({"context", "reason", "related_object"})
"""Of `/v2/core/events`: not nullable in the schema, and null in the examples of Stripe's documentation."""


@cache
def document(part: str) -> dict[str, Any]:
    """The part of Stripe's OpenAPI of `v1` or `v2`, as JSON Schema."""
    text = (FOLDER / f"{part}.json").read_text(encoding="utf-8")
    return {key: _schema(value) for key, value in json.loads(text).items()}


def problems(exchange: Exchange) -> list[str]:
    """What is not as Stripe has published it; empty if nothing is."""
    part = exchange.path.split("/")[1]
    operation = _operation(part, exchange.method, exchange.path)
    if operation is None:
        return [f"{exchange.method} {exchange.path} is not in the published part"]
    where = f"{exchange.method} {exchange.path}"
    found = (
        []
        if exchange.status == 400
        else [f"{where}: {text}" for text in _request_problems(part, operation, exchange)]
    )
    responses = operation["responses"]
    schema = responses.get(str(exchange.status), responses["default"])["content"]["application/json"]["schema"]
    said = json.loads(exchange.answer)
    return found + [
        f"{where} answered {exchange.status}: {text}" for text in _against(part, schema, _without_nulls(said))
    ]


def body_problems(part: str, schema: str, body: Any) -> list[str]:
    """What of one object, such as the body of a webhook, is not as its schema has it."""
    return list(_against(part, document(part)["components"]["schemas"][schema], _without_nulls(body)))


def _operation(part: str, method: str, path: str) -> dict[str, Any] | None:
    for template, item in sorted(document(part)["paths"].items(), key=lambda one: one[0].count("{")):
        if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", template), path):
            operation: dict[str, Any] | None = item.get(method.lower())
            return operation
    return None


def _request_problems(part: str, operation: Mapping[str, Any], exchange: Exchange) -> Iterator[str]:
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        yield from _against(part, content["application/json"]["schema"], json.loads(exchange.body or b"{}"))
    elif exchange.body and exchange.method == "POST" and part == "v1":
        schema = content["application/x-www-form-urlencoded"]["schema"]
        yield from _against(part, schema, _typed(schema, _tree(exchange.body.decode())))
    parameters = {one["name"]: one for one in operation.get("parameters", ()) if one["in"] == "query"}
    properties = {name: one["schema"] for name, one in parameters.items()}
    required = [name for name, one in parameters.items() if one.get("required")]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    if exchange.method == "GET":
        yield from _against(part, schema, _typed(schema, _tree(exchange.query)))


def _against(part: str, schema: Mapping[str, Any], value: Any) -> Iterator[str]:
    whole = {"components": document(part)["components"], **schema}
    for error in Draft202012Validator(whole).iter_errors(value):
        yield f"{error.json_path}: {error.message}"


def _schema(value: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: what is nullable may be null; `oneOf` is any of them, for Stripe's overlap."""
    if isinstance(value, list):
        return [_schema(one) for one in value]
    if not isinstance(value, dict):
        return value
    made = {"anyOf" if key == "oneOf" else key: _schema(below) for key, below in value.items() if key != "nullable"}
    return {"anyOf": [made, {"type": "null"}]} if value.get("nullable") is True else made


def _tree(encoded: str) -> dict[str, Any]:
    """`a[b]=1&c[0]=2` nested; lists are objects with numbers as names until their schema says otherwise."""
    tree: dict[str, Any] = {}
    for name, value in urllib.parse.parse_qsl(encoded, keep_blank_values=True, strict_parsing=bool(encoded)):
        path = re.findall(r"[^\[\]]+", name)
        place = tree
        for segment in path[:-1]:
            place = place.setdefault(segment, {})
        place[path[-1]] = value
    return tree


def _typed(schema: Mapping[str, Any], value: Any) -> Any:
    """Texts of a form as what the schema wants them to be, where they can be."""
    for choice in schema.get("anyOf", ()):
        typed = _typed(choice, value)
        if Draft202012Validator({**choice}).is_valid(typed):
            return typed
    kind = schema.get("type")
    if kind == "integer" and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind == "array" and isinstance(value, dict):
        return [_typed(schema.get("items", {}), one) for one in value.values()]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return {name: _typed(properties.get(name, {}), one) for name, one in value.items()}
    return value


def _without_nulls(said: Any) -> Any:
    events = said.get("data") if isinstance(said, dict) and "next_page_url" in said else [said]
    for event in events if isinstance(events, list) else ():
        if isinstance(event, dict) and event.get("object") == "v2.core.event":
            for name in NULL_BY_EXAMPLE:
                if event.get(name, "") is None:
                    del event[name]
    return said
