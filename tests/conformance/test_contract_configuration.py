"""The contract on configurations, rule by rule, seen from outside."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from outside import EXAMPLE, Result, changed, command

POLICY = "processors__usage_policy__policies__0__"
STRIPE = "exporters__stripe_meter__"


@pytest.fixture(autouse=True)
def stripe_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that the contract's configuration asks for."""
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_of_the_environment")


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a configuration file."""

    def written(text: str = EXAMPLE, name: str = "usageflow.yaml", **sections: Any) -> Path:
        file = tmp_path / name
        file.write_text(changed(text, **sections) if sections else text)
        return file

    return written


def validate(*files: Path, sets: tuple[str, ...] = ()) -> Result:
    """Run `validate`."""
    return command(
        "validate",
        *(one for file in files for one in ("--config", file)),
        *(one for s in sets for one in ("--set", s)),
    )


def printed(*files: Path, sets: tuple[str, ...] = ()) -> Any:
    """What `print-config` prints, as a tree."""
    result = command(
        "print-config",
        *(one for file in files for one in ("--config", file)),
        *(one for s in sets for one in ("--set", s)),
    )
    assert (result.status, result.err) == (0, "")
    return yaml.safe_load(result.out)


def test_the_configuration_of_the_contract(write: Any) -> None:
    """The configuration on the page is right: exit 0 and no output."""
    assert validate(write()) == Result(0, "", "")


@pytest.mark.parametrize(
    "sections",
    [
        {"receivers__otlp__protocols__grpc": None},
        {"receivers__otlp__protocols__grpc": {"max_recv_msg_size_mib": 16, "max_concurrent_streams": 100}},
        {"receivers__otlp__protocols__grpc__keepalive": {"server_parameters": {"time": "30s"}}},
        {
            "receivers__otlp__protocols__http": {
                "max_request_body_size": 1048576,
                "cors": {"allowed_origins": ["https://*"]},
            }
        },
        {"receivers__otlp__protocols__grpc__tls": {"cert_file": "a.pem", "key_file": "b.pem"}},
        {"receivers__otlp__protocols__http__tls": {"cert_file": "a.pem", "key_file": "b.pem"}},
        {STRIPE + "account": "acct_1"},
        {STRIPE + "api": "v1"},
        {STRIPE + "endpoints": dict.fromkeys(("api", "meter_events", "connect"), "http://127.0.0.1:1")},
        {STRIPE + "aggregation": {"window": "10s", "max_window": "60s"}},
        {STRIPE + "aggregation": {"window": "0s"}},
        {
            STRIPE + "retry_on_failure": {
                "initial_interval": "1s",
                "multiplier": 2,
                "randomization_factor": 0.5,
                "max_interval": "1m30s",
            }
        },
        {STRIPE + "customers": {"refresh": "10m"}},
        {"processors__usage_policy__placeholders": ["anonymous"]},
        {"processors__usage_policy__exclude_scopes": ["fastapi"]},
    ],
    ids=str,
)
def test_every_key_of_the_contract_is_known(sections: dict[str, Any], write: Any) -> None:
    """The keys of the tables and of the comments are accepted."""
    assert validate(write(**sections)) == Result(0, "", "")


def test_auth_names_an_extension(write: Any) -> None:
    """`auth` under both protocols names an authenticator by its id."""
    file = write(
        receivers__otlp__protocols__grpc__auth={"authenticator": "bearertokenauth/a"},
        extensions={**yaml.safe_load(EXAMPLE)["extensions"], "bearertokenauth/a": {"token": "t"}},
        service__extensions=["sqlite_storage", "health_check", "bearertokenauth/a"],
    )
    assert validate(file) == Result(0, "", "")


@pytest.mark.parametrize(
    ("sections", "path", "nearest"),
    [
        ({STRIPE + "api_kee": "x"}, "exporters::stripe_meter::api_kee", "api_key"),
        ({"recievers": {}}, "recievers", "receivers"),
        ({"processors__usage_polcy": {}}, "processors::usage_polcy", "usage_policy"),
        ({"receivers__otpl": {}}, "receivers::otpl", "otlp"),
        ({"receivers__otlp__protocols__gprc": {}}, "receivers::otlp::protocols::gprc", "grpc"),
        ({POLICY + "event_nam": "x"}, "processors::usage_policy::policies::0::event_nam", "event_name"),
        ({POLICY + "match": {"servce": "x"}}, "processors::usage_policy::policies::0::match::servce", "service"),
        ({POLICY + "user": {"heder": "x"}}, "processors::usage_policy::policies::0::user::heder", "header"),
        ({POLICY + "user": {"api_key": {"haeder": "x"}}}, "policies::0::user::api_key::haeder", "header"),
        ({STRIPE + "aggregation": {"windw": "1s"}}, "exporters::stripe_meter::aggregation::windw", "window"),
        ({"service__pipelines__traces__recievers": []}, "service::pipelines::traces::recievers", "receivers"),
        ({"service__extensions": ["sqlite_storage", "heath_check"]}, "service::extensions::1", "health_check"),
        ({"service__pipelines__traces__receivers": ["otpl"]}, "service::pipelines::traces::receivers::0", "otlp"),
        (
            {STRIPE + "sending_queue__storage": "sqlite_storge"},
            "stripe_meter::sending_queue::storage",
            "sqlite_storage",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mistakes_name_the_path_and_the_nearest_name(
    sections: dict[str, Any], path: str, nearest: str, write: Any
) -> None:
    """Unknown keys, unknown types and dangling references: errors that name the path and the nearest known name."""
    result = validate(write(**sections))
    assert (result.status, result.out) == (1, "")
    (line,) = [line for line in result.err.splitlines() if path in line]
    assert nearest in line.partition(path)[2]


def test_every_error_at_once(write: Any) -> None:
    """`validate`: every error at once, exit 1."""
    result = validate(write(**{STRIPE + "api_kee": 1, POLICY + "status": "6xx", "service__extensions": ["x"]}))
    assert result.status == 1
    for path in ("api_kee", "policies::0::status", "service::extensions::0"):
        assert path in result.err


@pytest.mark.parametrize(
    "sections",
    [
        {"receivers": []},
        {"receivers": "otlp"},
        {"receivers__otlp": {}},
        {"receivers__otlp__protocols": {}},
        {"receivers__otlp__protocols__grpc__endpoint": "nowhere"},
        {"receivers__otlp__protocols__grpc__max_recv_msg_size_mib": "16MB"},
        {"receivers__otlp/": {}},
        {"processors__usage_policy__policies": {}},
        {"processors__usage_policy__policies": []},
        {"processors__usage_policy__policies": ["chat"]},
        {STRIPE + "api": "v3"},
        {STRIPE + "sending_queue": None},
        {STRIPE + "api_key": None},
        {STRIPE + "api_key": ["sk_test_1"]},
        {STRIPE + "aggregation": {"window": 10}},
        {STRIPE + "aggregation": {"window": "1d"}},
        {STRIPE + "aggregation": {"window": "ten seconds"}},
        {STRIPE + "customers": {"refresh": True}},
        {"service": {}},
        {"service__pipelines": {}},
        {"service__pipelines__traces__exporters": []},
        {"service__pipelines__metrics": {"receivers": ["otlp"], "exporters": ["stripe_meter"]}},
        {"service__extensions": ["sqlite_storage", "sqlite_storage"]},
        {POLICY + "quantity": -1},
        {POLICY + "quantity": "many"},
        {POLICY + "status": "ok"},
        {POLICY + "payload": {"model": "gen_ai.request.model"}},
    ],
    ids=str,
)
def test_wrong_values(sections: dict[str, Any], write: Any) -> None:
    """A value of a wrong form is an error with its path, and never a traceback."""
    result = validate(write(**sections))
    assert (result.status, result.out) == (1, "")
    assert "::" in result.err or result.err.startswith("receivers")
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"# nothing\n",
        b"{}",
        b"- a\n",
        b"text",
        b"a: [",
        b"a: 1\na: 2\n",
        b"a:\n\tb: 1\n",
        b"\xff\xfe",
        b"a: \x00",
        b"a: !!python/name:os.system x",
    ],
)
def test_what_is_no_configuration(data: bytes, tmp_path: Path) -> None:
    """Empty files, other YAML, no YAML, repeated keys, tabs, bytes: a message with the file or the path."""
    file = tmp_path / "wrong.yaml"
    file.write_bytes(data)
    result = validate(file)
    assert (result.status, result.out) == (1, "")
    assert "wrong.yaml" in result.err or "::" in result.err
    assert "Traceback" not in result.err


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """Every file that cannot be read is named."""
    result = validate(tmp_path / "one.yaml", tmp_path)
    assert (result.status, "one.yaml" in result.err, f"{tmp_path}: " in result.err) == (1, True, True)


@pytest.mark.parametrize(
    ("written", "environment", "expected"),
    [
        ("${env:X}", {"X": "value"}, "value"),
        ("a-${env:X}-b", {"X": "1"}, "a-1-b"),
        ("${env:X:-default}", {}, "default"),
        ("${env:X:-default}", {"X": ""}, ""),
        ("${env:X:-default}", {"X": "value"}, "value"),
        ("${env:X:-}", {}, ""),
        ("$$", {}, "$"),
        ("$${env:X}", {"X": "value"}, "${env:X}"),
        ("$X", {"X": "value"}, "$X"),
        ("${env:X}", {"X": "007"}, "007"),
        ("${env:X}", {"X": "a: [b"}, "a: [b"),
        ("${env:X}", {"X": "$${env:Y}"}, "$${env:Y}"),
    ],
)
def test_environment(
    written: str, environment: dict[str, str], expected: str, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`${env:NAME}`, `${env:NAME:-default}`, `$$`; the default is for a variable that is not set at all."""
    monkeypatch.delenv("X", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = printed(write(processors__usage_policy__placeholders=[written]))
    found = told["processors"]["usage_policy"]["placeholders"][0]
    # What is printed is a configuration again, in which `$` before a brace or a `$` is written twice.
    assert found.replace("$$", "$") == expected


def test_an_unset_variable_is_named(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set counts as empty; where the key is required, the message names it."""
    for change in (lambda: monkeypatch.delenv("STRIPE_API_KEY"), lambda: monkeypatch.setenv("STRIPE_API_KEY", "")):
        change()
        result = validate(write())
        assert (result.status, "exporters::stripe_meter::api_key" in result.err) == (1, True)
        assert "STRIPE_API_KEY" in result.err


def test_variables_are_typed(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole variable has the type that its field wants: a number, a list, or text with its zeros."""
    monkeypatch.setenv("SIZE", "16")
    monkeypatch.setenv("ACCOUNT", "0123")
    monkeypatch.setenv("SCOPES", "[a, b]")
    sections = {
        "receivers__otlp__protocols__grpc__max_recv_msg_size_mib": "${env:SIZE}",
        STRIPE + "account": "${env:ACCOUNT}",
        "processors__usage_policy__exclude_scopes": "${env:SCOPES}",
    }
    told = printed(write(**sections))
    assert told["receivers"]["otlp"]["protocols"]["grpc"]["max_recv_msg_size_mib"] == 16
    assert told["exporters"]["stripe_meter"]["account"] == "0123"
    assert told["processors"]["usage_policy"]["exclude_scopes"] == ["a", "b"]


def test_several_files_merge_in_order(write: Any) -> None:
    """Several `--config` merge in order: maps deeply, lists as a whole; `--set` comes last."""
    over = write(
        "exporters: {stripe_meter: {account: acct_2}}\nservice: {extensions: [sqlite_storage]}\n", "over.yaml"
    )
    told = printed(write(), over)
    assert told["exporters"]["stripe_meter"]["account"] == "acct_2"
    assert told["exporters"]["stripe_meter"]["sending_queue"] == {"storage": "sqlite_storage"}
    assert told["service"]["extensions"] == ["sqlite_storage"]
    assert printed(over, write())["service"]["extensions"] == ["sqlite_storage", "health_check"]
    told = printed(write(), over, sets=("exporters::stripe_meter::account=acct_3",))
    assert told["exporters"]["stripe_meter"]["account"] == "acct_3"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("exporters::stripe_meter::aggregation::window=1s", "1s"),
        ("exporters.stripe_meter.aggregation.window=5s", "5s"),
        ("exporters::stripe_meter::aggregation={window: 7s}", "7s"),
    ],
)
def test_set(argument: str, expected: str, write: Any) -> None:
    """`--set key::path=value`: the value is YAML; dots part the keys, too."""
    told = printed(write(**{STRIPE + "aggregation": {"max_window": "60s"}}), sets=(argument,))
    assert told["exporters"]["stripe_meter"]["aggregation"] == {"max_window": "60s", "window": expected}


@pytest.mark.parametrize(
    "argument", ["novalue", "=1", "a::=1", "exporters::stripe_meter::aggregation=[", "exporters::x=1"]
)
def test_wrong_set(argument: str, write: Any) -> None:
    """A `--set` that cannot be read is a message, exit 1."""
    result = validate(write(), sets=(argument,))
    assert (result.status, result.out, "Traceback" in result.err) == (1, "", False)


@pytest.mark.parametrize("text", ["10s", "1m30s", "300ms", "1.5h", "1h2m3s", "0s"])
def test_durations(text: str, write: Any) -> None:
    """Durations as `10s`, `1m30s`: Go's."""
    section = {"receivers__otlp__protocols__grpc__keepalive": {"server_parameters": {"max_connection_age": text}}}
    assert validate(write(**section)) == Result(0, "", "")


def test_secrets_are_redacted(write: Any) -> None:
    """`print-config`: secrets shown as [REDACTED], wherever they stand."""
    secret = "sk_live_never_shown"
    user = {"api_key": {"header": "x-api-key", "hash": "hmac-sha256", "secret": secret}}
    result = command("print-config", "--config", write(**{STRIPE + "api_key": secret, POLICY + "user": user}))
    assert (result.status, secret in result.out) == (0, False)
    told = yaml.safe_load(result.out)
    assert told["exporters"]["stripe_meter"]["api_key"] == "[REDACTED]"
    assert told["processors"]["usage_policy"]["policies"][0]["user"]["api_key"]["secret"] == "[REDACTED]"
    assert told["service"] == yaml.safe_load(EXAMPLE)["service"]


def test_messages_keep_their_words(write: Any) -> None:
    """What is no secret mangles no message, even where a value is a word of it."""
    result = validate(write(**{POLICY + "user": {"heder": "header", "quer": "mean", "scope": "known"}}))
    assert "did you mean header?" in result.err
    assert "[REDACTED]" not in result.err


def test_ids_are_type_and_name(write: Any) -> None:
    """`type[/name]` ids: several of one type differ by name."""
    sections = {
        "receivers__otlp/second": {"protocols": {"http": None}},
        "service__pipelines__traces__receivers": ["otlp", "otlp/second"],
    }
    assert validate(write(**sections)) == Result(0, "", "")
