"""The contract on the command line: its words, its exit statuses, and every terminal it may meet."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from outside import EXAMPLE, command, export, request, span

COMMANDS = ("validate", "print-config", "components", "preview", "usage", "demo")
CHAT = "/v1/chat/completions"
DIGEST = "0123456789abcdef" * 4
USERS = ("café", DIGEST, "日本", "x" * 300, ":smile:", "[bold]", "\x1b[31mred")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a configuration and spans."""
    (tmp_path / "usageflow.yaml").write_text(EXAMPLE)
    (tmp_path / "spans.pb").write_bytes(export(*(span(request(CHAT, user=user)) for user in USERS)))
    return tmp_path


def process(*arguments: str, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Run the command as a process of its own."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("STRIPE_API_KEY", "COLUMNS")}
    return subprocess.run(
        [sys.executable, "-m", "otel_usageflow", *arguments],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


PREVIEW = ("preview", "--config", "usageflow.yaml", "--input", "spans.pb")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """`--help` of each command says how it is called, exit 0."""
    result = command(name, "--help")
    assert (result.status, result.err) == (0, "")
    assert f"otel-usageflow {name}" in result.out


def test_a_command_lists_only_what_works() -> None:
    """The help lists the commands, and one that is not there is a usage error."""
    told = command("--help").out
    for name in COMMANDS:
        assert f"\n    {name} " in told or f"\n  {name} " in told
    result = command("no-such-command")
    assert (result.status, result.out, "no-such-command" in result.err) == (1, "", True)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--bogus",),
        ("validate",),
        ("print-config",),
        ("preview",),
        ("preview", "--config", "x.yaml"),
        ("preview", "--config", "x.yaml", "--input", "x", "--format", "xml"),
        ("usage", "--config", "x.yaml", "--since", "yesterday"),
        ("--config",),
        ("validate", "x.yaml"),
    ],
    ids=" ".join,
)
def test_usage_errors_exit_1(arguments: tuple[str, ...]) -> None:
    """Exit status 1: configuration or usage error, with a message on standard error."""
    result = command(*arguments)
    assert (result.status, result.out) == (1, "")
    assert result.err.strip()
    assert "Traceback" not in result.err


def test_config_before_and_after_the_command(directory: Path) -> None:
    """`--config` before the command and after it are the same."""
    config, spans = directory / "usageflow.yaml", directory / "spans.pb"
    before = command("--config", config, "preview", "--input", spans, "--format", "json")
    after = command("preview", f"--config={config}", f"--input={spans}", "--format=json")
    assert before == after
    assert before.status == 0


def test_components() -> None:
    """`components`: what this build contains."""
    result = command("components")
    assert (result.status, result.err) == (0, "")
    for name in ("otlp", "usage_policy", "stripe_meter", "sqlite_storage", "health_check"):
        assert name in result.out


@pytest.mark.parametrize("name", ["preview", "print-config"])
def test_what_needs_no_secret_does_not_ask_for_it(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that sends nothing says nothing of a Stripe key that is not set."""
    monkeypatch.delenv("STRIPE_API_KEY", raising=False)
    spans = ("--input", directory / "spans.pb") if name == "preview" else ()
    result = command(name, "--config", directory / "usageflow.yaml", *spans)
    assert (result.status, result.err) == (0, "")


@pytest.mark.parametrize(
    "environment",
    [
        {"COLUMNS": "0"},
        {"PYTHONIOENCODING": "ascii", "COLUMNS": "20"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["no width", "ascii, narrow", "C locale"],
)
def test_every_terminal_gets_a_table(environment: dict[str, str], directory: Path) -> None:
    """Users are whole on every terminal, and none of them is obeyed."""
    done = process(*PREVIEW, cwd=directory, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    for text in (DIGEST, "x" * 300, ":smile:", "[bold]", "caf"):
        assert text.encode() in done.stdout
    assert b"\x1b" not in done.stdout


def test_every_terminal_gets_json(directory: Path) -> None:
    """JSON is whole where the terminal has no UTF-8."""
    done = process(*PREVIEW, "--format", "json", cwd=directory, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert {line["user"] for line in json.loads(done.stdout)["usage"]} == set(USERS)


def test_a_reader_that_leaves(directory: Path) -> None:
    """Whoever reads only the first line hears no complaint."""
    line = f"{sys.executable} -m otel_usageflow {' '.join(PREVIEW)} --format json | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=directory, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"{\n", b"")


@pytest.mark.parametrize(
    ("streams", "status", "says"),
    [("<&-", 0, b""), (">&-", 0, b""), (">/dev/full", 2, b"No space left on device")],
)
def test_streams_that_are_closed_or_full(streams: str, status: int, says: bytes, directory: Path) -> None:
    """Whatever the streams are, there is a status and a message, and never a traceback."""
    name = "-" if streams == "<&-" else "spans.pb"
    line = f"{sys.executable} -m otel_usageflow preview --config usageflow.yaml --input {name} {streams}"
    done = subprocess.run(["bash", "-c", line], cwd=directory, capture_output=True, timeout=60, check=False)
    assert done.returncode == status
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


def test_running_with_a_wrong_configuration_exits_1(directory: Path) -> None:
    """Exit status 1: the service does not start with a configuration that is wrong."""
    done = process("--config", "usageflow.yaml", "--set", "exporters::stripe_meter::api_kee=1", cwd=directory)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"exporters::stripe_meter::api_kee" in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_cannot_start_exits_2(directory: Path) -> None:
    """Exit status 2: could not start."""
    (directory / "taken").write_text("a file")
    arguments = ("--config", "usageflow.yaml", "--set", "extensions::sqlite_storage::directory=taken/below")
    done = process(*arguments, cwd=directory, STRIPE_API_KEY="sk_test_1")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr
