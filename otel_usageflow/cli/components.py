"""`otel-usageflow components`: what this build contains."""

import argparse
import json
import sys

_EPILOG = """\
examples:
  otel-usageflow components
  otel-usageflow components --schema > usageflow.schema.json    for editors that complete YAML
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "components",
        help="list what this build contains",
        description="List the components of this build as YAML, those of other packages included.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the configuration instead")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print the list, or the schema."""
    import yaml

    from otel_usageflow import __version__
    from otel_usageflow.components import listing, registry
    from otel_usageflow.config.schema import schema

    if arguments.schema:
        sys.stdout.write(json.dumps(schema(registry()), indent=2) + "\n")
        return 0
    tree = {
        "buildinfo": {"command": "otel-usageflow", "version": __version__},
        **{
            kind.value: [{"name": listed.factory.name, "module": listed.module} for listed in found]
            for kind, found in listing().items()
        },
    }
    sys.stdout.write(yaml.safe_dump(tree, sort_keys=False))
    return 0
