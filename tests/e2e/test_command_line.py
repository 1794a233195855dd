"""The installed command as a process: its words, its exit statuses, and how it stops."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

COMMAND = [sys.executable, "-m", "otel_usageflow"]

CONFIG = """\
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:0"}
      http: {endpoint: "127.0.0.1:0"}
processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /v1/chat/completions
        user: {header: x-account-id}
        customer: {metadata_field: account_id}
        event_name: api_request
exporters:
  debug:
  stripe_meter:
    api_key: ${env:TEST_STRIPE_KEY}
    sending_queue: {storage: sqlite_storage}
extensions:
  sqlite_storage: {directory: "${env:TEST_DIRECTORY}"}
  health_check: {endpoint: "127.0.0.1:0"}
service:
  extensions: [sqlite_storage, health_check]
  pipelines:
    traces: {receivers: [otlp], processors: [usage_policy], exporters: [debug]}
  telemetry: {logs: {encoding: json}}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "usageflow.yaml"
    file.write_text(CONFIG)
    return str(file)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TEST_STRIPE_KEY": "sk_test_secret", "TEST_DIRECTORY": str(tmp_path / "ledger")}


def call(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


class Running:
    """The service as a process, with the lines of its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def line(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for a line of the log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while text := await self.process.stderr.readline():
                self.lines.append(json.loads(text))
                if self.lines[-1]["event"] == event and fields.items() <= self.lines[-1].items():
                    return self.lines[-1]
        raise AssertionError(f"no {event} in {self.lines}")

    async def ports(self) -> dict[str, int]:
        started = await self.line("started", component="receivers::otlp")
        await self.line("ready")
        return {name: int(started[name].rpartition(":")[2]) for name in ("grpc", "http")}

    async def end(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def running(arguments: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def test_version() -> None:
    """`--version` names the command and its version."""
    done = call(["--version"])
    assert (done.returncode, done.stdout) == (0, "otel-usageflow 0.1.0\n")


def test_console_script() -> None:
    """The installed script is the same as the module."""
    script = Path(sys.executable).with_name("otel-usageflow")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "otel-usageflow 0.1.0\n"


def test_help() -> None:
    """The help lists every command, and each command's help has examples."""
    from otel_usageflow.cli import COMMANDS

    names = [module.__name__.rpartition(".")[2].replace("_", "-") for module in COMMANDS]
    top = call(["--help"]).stdout
    for name in names:
        assert f"\n    {name} " in top
        done = call([name, "--help"])
        assert done.returncode == 0
        assert "examples:" in done.stdout


def test_help_waits_for_nothing_heavy() -> None:
    """The help imports neither gRPC nor Stripe nor a web server."""
    code = (
        "import sys\nfrom otel_usageflow.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = ('grpc', 'stripe', 'aiohttp', 'structlog', 'rich', 'fastapi')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a configuration with --config FILE"),
        (["validat"], "validat"),
        (["--confg=x"], "--confg"),
        (["validate", "--conf", "x"], "--conf"),
        (["validate"], "name a file with --config FILE"),
        (["--config", "/nonexistent.yaml"], "/nonexistent.yaml: there is no such file"),
        (["--config"], "expected one argument"),
    ],
)
def test_usage_errors(arguments: list[str], message: str) -> None:
    """A call that makes no sense says why on standard error and exits with 1."""
    done = call(arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_validate(config: str, environment: dict[str, str]) -> None:
    """A right configuration gives no output at all and exits with 0."""
    done = call(["validate", "--config", config], environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_validate_wrong(config: str, environment: dict[str, str]) -> None:
    """Every mistake is reported at once, one a line, and no secret; the exit status is 1."""
    sets = ["exporters::stripe_meter::api_kee=sk_live_secret", "receivers::otlp::protocols::gprc="]
    arguments = ["validate", "--config", config, "--set", sets[0], "--set", sets[1]]
    done = call(arguments, {**environment, "TEST_STRIPE_KEY": "pk_test_secret"})
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.partition(" (known")[0] for line in done.stderr.splitlines()] == [
        "receivers::otlp::protocols::gprc: unknown key; did you mean grpc?",
        (
            "exporters::stripe_meter::api_key: is a publishable key; "
            "metering needs a secret (sk_...) or restricted (rk_...) key"
        ),
        "exporters::stripe_meter::api_kee: unknown key; did you mean api_key?",
    ]


def test_validate_names_the_unset_variable(config: str, environment: dict[str, str]) -> None:
    """A key from a variable that is not set is missed by the variable's name."""
    del environment["TEST_STRIPE_KEY"]
    done = call(["validate", "--config", config], environment)
    assert done.returncode == 1
    assert done.stderr == (
        "exporters::stripe_meter::api_key: is required, but the environment variable TEST_STRIPE_KEY is not set\n"
    )


def test_options_before_and_after_the_command(config: str, environment: dict[str, str], tmp_path: Path) -> None:
    """Configurations named before the command count like those after it, and come first."""
    over = tmp_path / "over.yaml"
    over.write_text("service: {telemetry: {logs: {level: debug}}}\n")
    done = call(["--config", config, "print-config", "--config", str(over)], environment)
    assert yaml.safe_load(done.stdout)["service"]["telemetry"] == {"logs": {"encoding": "json", "level": "debug"}}


def test_print_config(config: str, environment: dict[str, str]) -> None:
    """The merged configuration is YAML, with variables filled in and secrets left out."""
    done = call(["print-config", "--config", config, "--set", "service.telemetry.logs.level=warn"], environment)
    tree = yaml.safe_load(done.stdout)
    assert tree["exporters"]["stripe_meter"]["api_key"] == "[REDACTED]"
    assert tree["extensions"]["sqlite_storage"]["directory"] == environment["TEST_DIRECTORY"]
    assert tree["service"]["telemetry"]["logs"] == {"encoding": "json", "level": "warn"}
    assert "sk_test_secret" not in done.stdout


def test_components() -> None:
    """The list is YAML and has every component that ships."""
    tree = yaml.safe_load(call(["components"]).stdout)
    assert tree["buildinfo"] == {"command": "otel-usageflow", "version": "0.1.0"}
    names = {kind: {entry["name"] for entry in tree[kind]} for kind in tree if kind != "buildinfo"}
    assert names == {
        "receivers": {"otlp"},
        "processors": {"usage_policy"},
        "exporters": {"debug", "stripe_meter"},
        "extensions": {"bearertokenauth", "health_check", "sqlite_storage"},
    }


def third_party(directory: Path, code: str) -> dict[str, str]:
    """The environment in which another package with one component is installed."""
    (directory / "their_component.py").write_text(code)
    info = directory / "their_package-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[otel_usageflow.components]\ntheirs = their_component:FACTORY\n")
    return {**os.environ, "PYTHONPATH": str(directory)}


def test_third_party_component(tmp_path: Path) -> None:
    """A component of another package is listed with that package."""
    code = (
        "from otel_usageflow.component import Factory, Kind\nfrom otel_usageflow.config.types import ConfigModel\n"
        "class Theirs(ConfigModel): pass\n"
        "FACTORY = Factory(Kind.EXTENSION, 'theirs', Theirs, lambda config, context: None)\n"
    )
    tree = yaml.safe_load(call(["components"], third_party(tmp_path, code)).stdout)
    assert {"name": "theirs", "module": "their-package 1.2"} in tree["extensions"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere", "cannot be loaded (ModuleNotFoundError: No module named 'nowhere')"),
        ("FACTORY = 3", "is no Factory"),
        ("from otel_usageflow.exporters.debug import FACTORY", "takes the name exporters::debug"),
    ],
)
def test_broken_third_party_component(tmp_path: Path, code: str, message: str) -> None:
    """A package that cannot be used is named with the reason, without a traceback."""
    done = call(["components"], third_party(tmp_path, code))
    assert (done.returncode, done.stdout) == (1, "")
    assert "the component theirs of their-package 1.2" in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_pipe() -> None:
    """Whoever reads only the beginning of the output hears no complaint."""
    with subprocess.Popen(
        [*COMMAND, "components", "--schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


def test_interrupted_command(tmp_path: Path) -> None:
    """Ctrl-C ends a command quietly with 130."""
    fifo = tmp_path / "slow.yaml"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [*COMMAND, "validate", "--config", str(fifo)], stderr=subprocess.PIPE, text=True
    ) as process:
        with fifo.open("w"):  # opens when the command has begun to read
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_until_signal(config: str, environment: dict[str, str], number: signal.Signals) -> None:
    """The service starts, says where it listens, takes spans, and ends with 0 when told to."""
    async with running(["--config", config], environment) as service:
        ports = await service.ports()
        request = ExportTraceServiceRequest()
        span = (
            request.resource_spans.add()
            .scope_spans.add()
            .spans.add(
                trace_id=b"t" * 16,
                span_id=b"s" * 8,
                name="GET /",
                kind=2,
                start_time_unix_nano=1,
                end_time_unix_nano=2,
            )
        )
        span.attributes.add(key="http.request.method").value.string_value = "GET"
        assert await post(ports["http"], request.SerializeToString()) == b"HTTP/1.1 200 OK"
        service.process.send_signal(number)
        assert (await service.line("stopping"))["signal"] == number.name
        summary = await service.line("usage_summary")
        assert (summary["spans"], summary["requests"], summary["unmatched"]) == (1, 1, 1)
        await service.line("stopped")
        assert await service.end() == 0
        remarks = [line for line in service.lines if line["event"] == "configuration"]
        assert [remark["path"] for remark in remarks] == ["exporters::stripe_meter"]


async def post(port: int, body: bytes) -> bytes:
    """Send one request; the status line."""
    head = (
        f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: {len(body)}"
    )
    async with connected(port) as (reader, writer):
        writer.write(head.encode() + b"\r\nConnection: close\r\n\r\n" + body)
        answer = await reader.read()
    return answer.partition(b"\r\n")[0]


async def test_call_in_flight_is_finished(config: str, environment: dict[str, str]) -> None:
    """A call that has begun before the signal is answered, and only then does the service end."""
    async with running(["--config", config], environment) as service:
        ports = await service.ports()
        async with connected(ports["http"]) as (reader, writer):
            await begin_call(reader, writer)
            service.process.send_signal(signal.SIGTERM)
            await service.line("stopping")
            writer.write(b"\0")  # the last byte; with it the body is no OTLP message
            async with asyncio.timeout(5):
                assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            assert await service.end() == 0


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def begin_call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a request whose last byte is still to come, and that the service has begun to read."""
    writer.write(
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        await reader.readline()
    writer.write(b"\xff\xff")
    await writer.drain()


async def test_second_signal(config: str, environment: dict[str, str]) -> None:
    """While a call keeps the drain waiting, a second signal ends the service at once, with 2."""
    async with running(["--config", config], environment) as service:
        ports = await service.ports()
        async with connected(ports["http"]) as (reader, writer):
            await begin_call(reader, writer)
            service.process.send_signal(signal.SIGTERM)
            await service.line("stopping")
            service.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(2):
                assert await service.process.wait() == 2
            assert service.process.stderr is not None
            assert await service.process.stderr.read() == b"otel-usageflow: stopped at once by a second signal\n"


async def test_stop_is_bounded(config: str, environment: dict[str, str]) -> None:
    """A client that never finishes its call cannot keep the service from ending within eight seconds."""
    async with running(["--config", config], environment) as service:
        ports = await service.ports()
        async with connected(ports["http"]) as (reader, writer):
            await begin_call(reader, writer)
            service.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(8.5):
                assert await service.process.wait() == 0


async def test_port_in_use(config: str, environment: dict[str, str]) -> None:
    """A port that is taken is named with its place in the configuration; the exit status is 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place = "receivers::otlp::protocols::http::endpoint"
        async with running(["--config", config, "--set", f"{place}=127.0.0.1:{port}"], environment) as service:
            failed = await service.line("failed")
            assert f"{place}: cannot listen on 127.0.0.1:{port}" in failed["error"]
            assert await service.end() == 2


async def test_ledger_in_use(config: str, environment: dict[str, str]) -> None:
    """A second service on the same ledger does not start, and says why."""
    async with running(["--config", config], environment) as first:
        await first.ports()
        async with running(["--config", config], environment) as second:
            failed = await second.line("failed")
            assert environment["TEST_DIRECTORY"] in failed["error"]
            assert await second.end() == 2
