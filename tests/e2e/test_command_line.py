"""The installed command: its words and its exit statuses."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from service_process import COMMAND, CONFIG, environment


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "usageflow.yaml"
    file.write_text(CONFIG)
    return str(file)


@pytest.fixture(name="environment")
def environment_fixture(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path)


def call(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


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
        "extensions": {"admin", "bearertokenauth", "health_check", "ingesttokenauth", "sqlite_storage"},
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
