"""`otel-usageflow discover`: what spans hold that could be billed, and a starter configuration."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from otel_usageflow.cli.arguments import add_config_arguments
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
  otel-usageflow discover --live --for 60s --output policies.yaml
  otel-usageflow discover --live --grpc 127.0.0.1:14317 --http 127.0.0.1:14318
  otel-usageflow discover --live --config usageflow.yaml

the input is OTLP: protobuf (one or several concatenated ExportTraceServiceRequest), JSON, or JSON lines as
the Collector's file exporter writes them; gzip is unpacked. It is read a piece at a time and may be large.
How to record spans: docs/capturing.md

--live listens like the service, at 127.0.0.1:4317 (gRPC) and 127.0.0.1:4318 (HTTP), or with --config where its
receivers listen, with their TLS and authentication. Everything is acknowledged; nothing is billed or kept. Ctrl-C,
SIGTERM or the end of --for stops it, and then it prints what it found

values that could be users are counted, never shown, unless --values asks for a few of them; keys, tokens and
cookies are not shown even then
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "discover",
        help="list the endpoints and possible users in spans, write a starter configuration",
        description="List the endpoints in recorded spans, or in those that come in for a while, and what could name "
        "the users of their requests. Writes a configuration to start from with --output. Bills nothing, sends "
        "nothing and keeps nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", metavar="PATH", help="a file with spans; - is standard input")
    source.add_argument("--live", action="store_true", help="listen for spans, until Ctrl-C")
    parser.add_argument("--for", dest="length", metavar="LENGTH", help="with --live: stop by itself, after 60s say")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="with --live: where gRPC listens (127.0.0.1:4317)")
    parser.add_argument("--http", metavar="HOST:PORT", help="with --live: where HTTP listens (127.0.0.1:4318)")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.add_argument("--output", metavar="FILE", help="write a starter configuration into this new file")
    parser.add_argument("--values", action="store_true", help="show a few of the values that could be users")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print what was found; 1 if the input cannot be read or the output cannot be written, 2 if no port opens."""
    _check(arguments)
    output = Path(arguments.output) if arguments.output else None
    if output is not None:
        _check_output(output)
    found = _listen(arguments) if arguments.live else _survey(arguments.input, values=arguments.values)
    problem = None if output is None else _write(output, found)
    if arguments.format == "json":
        from otel_usageflow.policy.discovery.document import as_json

        write_json(as_json(found, values=arguments.values))
    else:
        from otel_usageflow.cli.discover_table import print_findings

        print_findings(found, console(), values=arguments.values)
        if output is not None and problem is None:
            _next_steps(arguments.output, arguments.input)
    if problem is not None:
        raise UsageError(problem)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.live:
        return
    if arguments.config or arguments.sets:
        raise UsageError("discover --input needs no configuration; leave --config and --set out")
    for option, value in (("--for", arguments.length), ("--grpc", arguments.grpc), ("--http", arguments.http)):
        if value is not None:
            raise UsageError(f"{option} belongs to --live; a recording is read to its end")


def _check_output(output: Path) -> None:
    """Refuse what cannot be written before the work, not after it."""
    if output.exists():
        raise UsageError(f"{output} exists already; name a new file with --output")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        why = "is not writable" if output.parent.is_dir() else "is no directory"
        raise UsageError(f"{output} cannot be written: {output.parent} {why}")


def _listen(arguments: argparse.Namespace) -> "Findings":
    from otel_usageflow.cli.discover_live import listen
    from otel_usageflow.policy.discovery.survey import Survey

    survey = Survey(values=arguments.values)
    listen(arguments, survey)
    return survey.finish()


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


def _write(output: Path, found: "Findings") -> str | None:
    """Write the starter file; what hindered it, which is told after what was found."""
    from otel_usageflow.policy.discovery.starter import starter

    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(starter(found))
    except FileExistsError:
        return f"{output} exists already; name a new file with --output"
    except OSError as error:
        return f"{output} cannot be written: {error.strerror}"
    return None


def _next_steps(output: str, source: str | None) -> None:
    sys.stdout.write(f"\nA starter configuration is in {output}. Read it, then see what it bills")
    if source is None:
        sys.stdout.write(" before it does; what came in was not kept, so record spans for it: docs/capturing.md")
    shown = "SPANS" if source in {None, "-"} else source
    sys.stdout.write(f":\n  otel-usageflow preview --config {output} --input {shown}\n")
