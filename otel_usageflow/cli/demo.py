"""`otel-usageflow demo`: the whole thing on this machine, with nothing to set up."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from otel_usageflow.cli.moments import parse_length
from otel_usageflow.errors import UsageError

_EPILOG = """\
It starts a sample API with the real OpenTelemetry SDK, the real service with the configuration of
collector_config/demo.yaml, and a local double of Stripe, each as a process of its own. It sends the API traffic of
several customers, sends some spans twice, kills the service once, and compares in the end what was sent with what
was billed. Nothing leaves this machine. Ctrl-C ends the traffic early.

exit status: 0 everything was billed exactly once, 3 it was not, 2 the demo could not run

examples:
  otel-usageflow demo
  otel-usageflow demo --duration 2m --directory ./demo-data
"""

_NEEDED = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.instrumentation.fastapi": "opentelemetry-instrumentation-fastapi",
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
}
"""Module -> the distribution that has it."""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        help="watch it work, with a sample API and a local Stripe double",
        description="Watch spans of an instrumented API become bills of the right customers, on this machine alone.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--duration", metavar="T", default="30s", help="how long the traffic lasts (default: 30s)")
    parser.add_argument(
        "--directory",
        metavar="DIR",
        type=Path,
        help="a new directory for ledger, configuration and logs (default: one for temporary files)",
    )
    parser.add_argument("--no-crash", action="store_true", help="do not kill the service in the middle")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Run the demo."""
    duration = _seconds(arguments.duration)
    missing = [name for module, name in _NEEDED.items() if not _installed(module)]
    if missing:
        raise UsageError(
            f"the demo needs packages that are not installed: {', '.join(missing)}\n"
            f"install them with: {sys.executable} -m pip install 'otel-usageflow[demo]'"
        )
    from otel_usageflow.demo.run import run

    return run(duration=duration, directory=arguments.directory, crash=not arguments.no_crash)


def _seconds(text: str) -> float:
    seconds = parse_length(text, "--duration")
    if not 1 <= seconds <= 3600:
        raise UsageError(f"--duration: {text} is out of range; choose 1s to 1h")
    return seconds


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
