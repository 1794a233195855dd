"""`otel-usageflow discover`: what recorded spans hold that could be billed, and a starter configuration."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from otel_usageflow.cli.output import console, write_json
from otel_usageflow.cli.progress import ProgressLine
from otel_usageflow.errors import InvalidData, UsageError

if TYPE_CHECKING:
    from otel_usageflow.policy.discovery.count import Findings

_EPILOG = """\
examples:
  otel-usageflow discover --input spans.pb
  otel-usageflow discover --input traces.jsonl --output policies.yaml
  otel-usageflow preview --config policies.yaml --input traces.jsonl
  otel-usageflow discover --input spans.pb --format json --values

the input is OTLP: protobuf (one or several concatenated ExportTraceServiceRequest), JSON, or JSON lines as
the Collector's file exporter writes them; gzip is unpacked. It is read a piece at a time and may be large.
How to record spans: docs/capturing.md

values that could be users are counted, never shown, unless --values asks for a few of them; keys, tokens and
cookies are not shown even then
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "discover",
        help="list the endpoints and possible users in recorded spans, write a starter configuration",
        description="List the endpoints in recorded spans, and what could name the users of their requests. Needs no "
        "configuration; writes one to start from with --output. Sends nothing and keeps nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", metavar="PATH", required=True, help="a file with spans; - is standard input")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.add_argument("--output", metavar="FILE", help="write a starter configuration into this new file")
    parser.add_argument("--values", action="store_true", help="show a few of the values that could be users")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print what was found; 1 if the input cannot be read or the output cannot be written."""
    if arguments.config or arguments.sets:
        raise UsageError("discover needs no configuration; leave --config and --set out")
    output = Path(arguments.output) if arguments.output else None
    if output is not None and output.exists():
        raise UsageError(f"{output} exists already; name a new file with --output")
    found = _survey(arguments.input, values=arguments.values)
    if output is not None:
        _write(output, found)
    if arguments.format == "json":
        from otel_usageflow.policy.discovery.document import as_json

        write_json(as_json(found, values=arguments.values))
    else:
        from otel_usageflow.cli.discover_table import print_findings

        print_findings(found, console(), values=arguments.values)
        if output is not None:
            _next_steps(arguments.output, arguments.input)
    return 0


def _survey(path: str, *, values: bool) -> "Findings":
    from otel_usageflow.model.recording import recorded_pieces
    from otel_usageflow.policy.discovery.survey import Survey

    survey = Survey(values=values)
    name = "standard input" if path == "-" else path
    try:
        with _opened(path) as (stream, size), ProgressLine() as progress:
            for piece in recorded_pieces(stream):
                survey.add(piece)
                progress("reading", stream.tell() if size else 0, size)
    except InvalidData as error:
        raise UsageError(f"{name}: {error}") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from None
    return survey.finish()


@contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO, int]]:
    """The input and its size; 0 where that is not known."""
    if path == "-":
        yield sys.stdin.buffer, 0
        return
    file = Path(path)
    with file.open("rb") as stream:
        yield stream, file.stat().st_size if file.is_file() else 0


def _write(output: Path, found: "Findings") -> None:
    from otel_usageflow.policy.discovery.starter import starter

    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(starter(found))
    except FileExistsError:
        raise UsageError(f"{output} exists already; name a new file with --output") from None
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from None


def _next_steps(output: str, source: str) -> None:
    shown = source if source != "-" else "SPANS"
    sys.stdout.write(
        f"\nA starter configuration is in {output}. Read it, then see what it bills:\n"
        f"  otel-usageflow preview --config {output} --input {shown}\n"
    )
