"""The JSON schema: up to date, true to what is accepted; and every key is documented."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from otel_usageflow.components import registry
from otel_usageflow.config.schema import schema

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "collector_config" / "schema.json"
DOCS = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return schema(registry(third_party=()))


def test_up_to_date(made: dict[str, Any]) -> None:
    """The committed schema is what the models say; if not: otel-usageflow components --schema."""
    assert json.loads(COMMITTED.read_text()) == made


def test_is_a_schema(made: dict[str, Any]) -> None:
    """It is valid JSON Schema, and every reference in it leads somewhere."""
    jsonschema.Draft202012Validator.check_schema(made)
    references = set(re.findall(r"#/\$defs/[^\"]+", json.dumps(made)))
    assert references
    assert all(reference.removeprefix("#/$defs/") in made["$defs"] for reference in references)


def documented() -> Iterator[tuple[str, str]]:
    for page in DOCS:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield page.name, block


def test_the_example_of_the_docs_fits(made: dict[str, Any]) -> None:
    """Every whole configuration of this service in the docs is valid by the schema; Collectors have their own."""
    whole = [
        tree for _, block in documented() if isinstance(tree := yaml.safe_load(block), dict) and "service" in tree
    ]
    whole = [tree for tree in whole if {"receivers", "processors", "exporters"} <= set(tree)]
    whole = [tree for tree in whole if any(id_.partition("/")[0] == "usage_policy" for id_ in tree["processors"])]
    assert whole
    for tree in whole:
        jsonschema.validate(tree, made, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("receivers", "otlp", "protocols", "grpc"), {"max_recv_msg_size_mib": "${env:SIZE}"}),
        (("receivers", "otlp", "protocols", "grpc"), None),
        (("receivers", "otlp/second"), {"protocols": {"http": None}}),
        (("extensions", "health_check"), None),
        (("exporters", "stripe_meter", "calls_per_second"), "${env:PACE:-500}"),
    ],
)
def test_accepts(made: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Environment variables, ids with a name and sections without a value are right by the schema, too."""
    jsonschema.validate(changed(path, value), made, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("receivers", "otlp", "protocols", "gprc"), None),
        (("receivers", "otpl"), {"protocols": {"grpc": None}}),
        (("exporters", "stripe_meter", "api_kee"), "x"),
        (("exporters", "stripe_meter", "calls_per_second"), "many"),
        (("service", "pipelines", "traces", "receivers"), "otlp"),
    ],
)
def test_rejects(made: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Unknown keys and types, and values of the wrong form, are marked in the editor."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path, value), made, cls=jsonschema.Draft202012Validator)


def changed(path: tuple[str, ...], value: object) -> dict[str, Any]:
    page = (ROOT / "docs" / "configuration.md").read_text()
    tree: dict[str, Any] = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    below = tree
    for step in path[:-1]:
        below = below[step]
    below[path[-1]] = value
    return tree


def keys(made: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, key)
        for name, definition in made["$defs"].items()
        for key in (*definition.get("properties", ()), *definition.get("enum", ()))
    ]


def test_every_key_is_documented(made: dict[str, Any]) -> None:
    """Every component, every key of every section and every word that a key may have stands somewhere in docs/."""
    text = "\n".join(page.read_text() for page in DOCS)
    words = set(re.findall(r"[a-z0-9_]+(?:-[a-z0-9]+)*", text))
    components = [(kind, name) for kind, factories in registry(third_party=()).items() for name in factories]
    assert [entry for entry in [*components, *keys(made)] if str(entry[1]) not in words] == []


def test_every_command_is_documented() -> None:
    """Every command and every option of it stands in docs/cli.md."""
    from otel_usageflow.cli import parser

    page = (ROOT / "docs" / "cli.md").read_text()
    commands = subcommands(parser())
    assert commands
    for name, command in commands.items():
        assert f"## {name}\n" in page
        options = {option for one in with_subcommands(command) for option in options_of(one)}
        assert {option for option in options if option not in page} == set()


def subcommands(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Name -> parser of what can stand behind a command."""
    found = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: command for action in found for name, command in action.choices.items()}


def with_subcommands(command: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A command and everything below it."""
    return [command, *(one for child in subcommands(command).values() for one in with_subcommands(child))]


def options_of(command: argparse.ArgumentParser) -> set[str]:
    """Its options, without those for help."""
    return {word for action in command._actions for word in action.option_strings} - {"-h", "--help"}
