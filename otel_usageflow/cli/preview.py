"""`otel-usageflow preview`: what recorded spans would cost, without sending anything."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments
from otel_usageflow.cli.output import console, write_json
from otel_usageflow.errors import InvalidData, UsageError

if TYPE_CHECKING:
    from otel_usageflow.policy.engine import PolicyEngine
    from otel_usageflow.policy.preview import Preview

_EPILOG = """\
examples:
  otel-usageflow preview --config usageflow.yaml --input spans.pb
  otel-usageflow preview --config usageflow.yaml --input traces.jsonl --format json
  otel-usageflow preview --config new.yaml --against usageflow.yaml --input spans.pb
  zstd -dc traces.jsonl.zst | otel-usageflow preview --config usageflow.yaml --input -

the input is OTLP: protobuf (one or several concatenated ExportTraceServiceRequest), JSON, or JSON lines as
the Collector's file exporter writes them; gzip is unpacked

with --against, both configurations bill the same spans, and only what differs is printed: "before" is OTHER_FILE,
"after" is --config; --set belongs to --config alone. Exit status: 0 they bill the same, 3 they do not
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "preview",
        help="bill recorded spans, send nothing",
        description="Bill recorded spans by the configuration's policies. Sends nothing and keeps nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("--input", metavar="PATH", required=True, help="a file with spans; - is standard input")
    parser.add_argument(
        "--against",
        metavar="OTHER_FILE",
        action="append",
        help="print how the bill differs from that of this configuration; exit status 3 if it does",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.add_argument(
        "--processor", metavar="ID", help="which usage_policy processor, where several are configured"
    )
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print the bill, or how it differs; 1 if a configuration or the input cannot be read, 3 on a difference."""
    if arguments.against:
        return _against(arguments)
    from otel_usageflow.cli.preview_policies import engine

    result = _bill(engine(arguments.config, arguments.sets, arguments.processor), _spans(arguments.input))
    if arguments.format == "json":
        write_json(result.as_json())
    else:
        from otel_usageflow.cli.preview_table import print_preview

        print_preview(result, console())
    return 0


def _against(arguments: argparse.Namespace) -> int:
    from otel_usageflow.cli.preview_policies import engines
    from otel_usageflow.policy.preview_difference import compare

    after, before = engines(arguments.config, arguments.against, arguments.sets, arguments.processor)
    spans = _spans(arguments.input)
    difference = compare(_bill(before, spans), _bill(after, spans))
    if arguments.format == "json":
        write_json(difference.as_json())
    else:
        from otel_usageflow.cli.preview_difference import print_difference

        print_difference(difference, console())
    return 0 if difference.equal else 3


def _bill(engine: "PolicyEngine", spans: bytes) -> "Preview":
    from otel_usageflow.policy.preview import preview

    return preview(engine, spans, time.time_ns())


def _spans(path: str) -> bytes:
    """The input as one serialized request."""
    from otel_usageflow.model.recorded import recorded_request

    try:
        return recorded_request(_read(path))
    except InvalidData as error:
        raise UsageError(f"{'standard input' if path == '-' else path}: {error}") from None


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
