"""`otel-usageflow discover --live`: spans come as they come to the service, and are counted, not billed.

The receivers are the service's own. They answer once a request is counted, so that what waits has the bound that
their admission gives it, and the survey's memory has one of its own.
"""

import argparse
import asyncio
import contextlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Final

from otel_usageflow.cli.arguments import load_config
from otel_usageflow.cli.moments import parse_length
from otel_usageflow.cli.progress import ProgressLine
from otel_usageflow.cli.secrets import need_secrets_of
from otel_usageflow.component import Consumed, Context, Kind
from otel_usageflow.config.model import Config, Configured, LogsConfig
from otel_usageflow.errors import CannotListen, StartError, UsageError
from otel_usageflow.policy.discovery.survey import Survey

_GRPC: Final = "127.0.0.1:4317"
_HTTP: Final = "127.0.0.1:4318"
_TICK: Final = 0.5
"""Seconds between two looks at the progress."""
_TAKEN: Final = (
    "If the service or a Collector runs there, leave it running: listen elsewhere (--grpc 127.0.0.1:14317 --http "
    "127.0.0.1:14318), and have the spans sent there as well; docs/discover.md, 'Beside a running service', says how"
)


def listen(arguments: argparse.Namespace, survey: Survey) -> None:
    """Count what comes in, until a signal or the end of `--for`.

    Raises:
        UsageError, ConfigErrors: the arguments or the configuration are wrong.
        StartError: it cannot listen.
    """
    from otel_usageflow.service.logging import configure

    seconds = math.inf if arguments.length is None else parse_length(arguments.length, "--for")
    if seconds <= 0:
        raise UsageError("--for: write how long to listen, as in 60s")
    receivers, extensions = _configured(arguments) if arguments.config else (_by_default(arguments), [])
    configure(LogsConfig(level="warn"))
    try:
        asyncio.run(_run(receivers, extensions, survey, seconds))
    except CannotListen as error:
        raise StartError(f"{error}\n{_TAKEN}") from None


def _by_default(arguments: argparse.Namespace) -> list[Configured]:
    """The OTLP receiver on the usual ports, or on those that were asked for."""
    from pydantic import ValidationError

    from otel_usageflow.receivers.otlp import FACTORY

    if arguments.sets:
        raise UsageError("--set changes a configuration; name it with --config FILE")
    made: dict[str, Any] = {}
    for protocol, default in (("grpc", _GRPC), ("http", _HTTP)):
        endpoint = getattr(arguments, protocol) or default
        try:
            made[protocol] = FACTORY.config.model_validate({"protocols": {protocol: {"endpoint": endpoint}}})
        except ValidationError:
            raise UsageError(
                f"--{protocol}: {endpoint!r} is not an endpoint; write host:port, as in {default}"
            ) from None
    protocols = {name: {"endpoint": str(getattr(one.protocols, name).endpoint)} for name, one in made.items()}
    return [Configured("otlp", FACTORY, FACTORY.config.model_validate({"protocols": protocols}))]


def _configured(arguments: argparse.Namespace) -> tuple[list[Configured], list[Configured]]:
    """The receivers that a configuration's pipelines use, and the extensions that these name, such as a bearer's."""
    for option in ("grpc", "http"):
        if getattr(arguments, option) is not None:
            raise UsageError(
                f"--{option} is for --live without --config; change the configuration's endpoint with "
                f"--set receivers::otlp::protocols::{option}::endpoint=HOST:PORT"
            )
    config = load_config(arguments, need_secrets=False)
    receivers = [config.receivers[id_] for id_ in config.used(Kind.RECEIVER)]
    named = {id_ for receiver in receivers for id_ in _references(receiver)}
    extensions = [config.extensions[id_] for id_ in config.used(Kind.EXTENSION) if id_ in named]
    if asking := [one.id for one in extensions if "storage" in one.factory.references]:
        raise UsageError(
            f"the receivers let in by {asking[0]}, whose tokens are in the service's ledger; listen at another port "
            "with discover --live without --config"
        )
    _need_secrets(config, receivers, extensions)
    return receivers, extensions


def _need_secrets(config: Config, receivers: Sequence[Configured], extensions: Sequence[Configured]) -> None:
    for receiver in receivers:
        need_secrets_of(config, Kind.RECEIVER, receiver.id)
    for extension in extensions:
        need_secrets_of(config, Kind.EXTENSION, extension.id)


def _references(receiver: Configured) -> list[str]:
    """The ids of extensions that a receiver names; a storage is none that a listener needs."""
    found: list[str] = []
    for path in receiver.factory.references:
        value: Any = receiver.config
        for key in path.split("::"):
            value = getattr(value, key, None)
        if isinstance(value, str) and path.endswith("authenticator"):
            found.append(value)
    return found


async def _run(
    receivers: Sequence[Configured], extensions: Sequence[Configured], survey: Survey, seconds: float
) -> None:
    from otel_usageflow.service.health import ServiceHealth
    from otel_usageflow.service.signals import stop_on_signals

    stopping = stop_on_signals()
    health = ServiceHealth()
    # One thread counts: a large request must not keep the ports from answering, and a survey is no place for two.
    with ThreadPoolExecutor(1) as counting, ProgressLine() as progress:

        async def consume(payload: bytes, caller: object = None) -> Consumed:
            await asyncio.get_running_loop().run_in_executor(counting, survey.add, payload)
            return Consumed()

        async with AsyncExitStack() as stack:
            entered: dict[str, Any] = {}
            for one in extensions:
                entered[one.id] = await _start(one, Context(one.id, health, dict(entered)), stack)
            addresses: list[str] = []
            for one in receivers:
                receiver = await _start(one, Context(one.id, health, entered, consume), stack)
                addresses += _addresses(receiver)
            sys.stderr.write(
                f"listening for spans: {', '.join(addresses)}; nothing is billed or kept; Ctrl-C ends it and tells "
                "what was found\n"
            )
            sys.stderr.flush()
            await _until_the_end(stopping, seconds, lambda: progress(_so_far(survey), 0, 0))
            if not survey.spans:
                sys.stderr.write("nothing came in: does the exporter send here, over the right protocol?\n")
        counting.shutdown(cancel_futures=True)  # what was not counted in time was not acknowledged either


async def _start(configured: Configured, context: Context, stack: AsyncExitStack) -> Any:
    try:
        return await stack.enter_async_context(configured.factory.build(configured.config, context))
    except OSError as error:
        raise StartError(f"{configured.id} cannot start: {error.strerror or error}") from error


def _addresses(receiver: object) -> list[str]:
    places: Mapping[str, object] = {name: getattr(receiver, f"{name}_address", None) for name in ("grpc", "http")}
    return [f"{name} {address}" for name, address in places.items() if address is not None]


def _so_far(survey: Survey) -> str:
    return f"{survey.spans:,} spans, {survey.requests:,} requests, {survey.endpoints:,} endpoints so far"


async def _until_the_end(stopping: asyncio.Event, seconds: float, tell: Callable[[], None]) -> None:
    now = asyncio.get_running_loop().time
    end = now() + seconds
    while not stopping.is_set() and (left := end - now()) > 0:
        tell()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_TICK, left)):
                await stopping.wait()
