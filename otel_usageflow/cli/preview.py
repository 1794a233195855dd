"""`otel-usageflow preview`: what recorded spans would cost, without sending anything."""

import argparse
import sys
import time
from pathlib import Path

from otel_usageflow.cli.arguments import add_config_arguments, load_config
from otel_usageflow.cli.output import console, write_json
from otel_usageflow.component import Kind
from otel_usageflow.config.model import Config
from otel_usageflow.errors import ConfigErrors, ConfigProblem, InvalidData, UsageError

_EPILOG = """\
examples:
  otel-usageflow preview --config usageflow.yaml --input spans.pb
  otel-usageflow preview --config usageflow.yaml --input traces.jsonl --format json
  zstd -dc traces.jsonl.zst | otel-usageflow preview --config usageflow.yaml --input -

the input is OTLP: protobuf (one or several concatenated ExportTraceServiceRequest), JSON, or JSON lines as
the Collector's file exporter writes them; gzip is unpacked
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
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.add_argument(
        "--processor", metavar="ID", help="which usage_policy processor, where several are configured"
    )
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print the bill; 0 whatever it holds, 1 if the configuration or the input cannot be read."""
    from otel_usageflow.model.recorded import recorded_request
    from otel_usageflow.policy.preview import preview
    from otel_usageflow.processors.usage_policy import UsagePolicyConfig, compile_engine

    config = load_config(arguments, need_secrets=False)
    chosen = config.processors[_processor(config, arguments.processor)]
    _need_secrets_of(config, chosen.id)
    assert isinstance(chosen.config, UsagePolicyConfig)
    engine = compile_engine(chosen.config)
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    try:
        result = preview(engine, recorded_request(_read(arguments.input)), time.time_ns())
    except InvalidData as error:
        name = "standard input" if arguments.input == "-" else arguments.input
        raise UsageError(f"{name}: {error}") from None
    if arguments.format == "json":
        write_json(result.as_json())
    else:
        from otel_usageflow.cli.preview_table import print_preview

        print_preview(result, console())
    return 0


def _processor(config: Config, wanted: str | None) -> str:
    known = [id_ for id_, one in config.processors.items() if one.factory.name == "usage_policy"]
    used = [id_ for id_ in config.used(Kind.PROCESSOR) if id_ in known] or known
    if wanted is not None:
        if wanted not in known:
            raise UsageError(
                f"{wanted} is no usage_policy processor of this configuration (configured: {', '.join(known)})"
            )
        return wanted
    if not used:
        raise UsageError("the configuration has no usage_policy processor, so there is nothing to bill by")
    if len(used) > 1:
        raise UsageError(f"there are several usage_policy processors; choose one with --processor: {', '.join(used)}")
    return used[0]


def _need_secrets_of(config: Config, processor: str) -> None:
    """Refuse to preview with a stand-in for a secret that policies hash or verify with."""
    problems = []
    for place in config.secrets:
        if place[:2] == (Kind.PROCESSOR.value, processor):
            value: object = config.written
            for step in place:
                value = value[step]  # type: ignore[index]
            if not str(value or "").strip():
                problems.append(
                    ConfigProblem("::".join(map(str, place)), "is required; its environment variable is not set")
                )
    if problems:
        raise ConfigErrors(problems)


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
