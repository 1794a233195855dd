"""From files to a checked configuration."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from sample_components import GOOD, REGISTRY

from otel_usageflow.config.load import load, read_source
from otel_usageflow.config.model import Config
from otel_usageflow.config.yaml_reader import NotYaml, read_yaml
from otel_usageflow.errors import ConfigErrors


def loaded(tmp_path: Path, *texts: str, sets: tuple[str, ...] = (), need_secrets: bool = True, **env: str) -> Config:
    files = []
    for index, text in enumerate(texts):
        file = tmp_path / f"{index}.yaml"
        file.write_text(text)
        files.append(str(file))
    return load(files, sets, REGISTRY, environment=env, need_secrets=need_secrets)


def test_typed(tmp_path: Path) -> None:
    """Components are typed and found by id; defaults are filled in."""
    config = loaded(tmp_path, GOOD)
    bill: Any = config.exporters["bill"].config
    assert bill.api_key.get_secret_value() == "sk_live_abcdef"
    assert bill.aggregation.window.total_seconds() == 10
    assert config.pipelines["traces"].receivers == ("wire",)


def test_section_without_value(tmp_path: Path) -> None:
    """A section without a value is that section with its defaults, as in the Collector."""
    wire: Any = loaded(tmp_path, GOOD).receivers["wire"].config
    assert wire.protocols.grpc.max_mib == 64
    assert wire.protocols.http is None


def test_later_files_win(tmp_path: Path) -> None:
    """Maps merge deeply, lists are replaced, and `--set` comes last."""
    over = "exporters: {bill: {account: acct_1, api: v2_stream}}\nservice: {telemetry: {logs: {level: WARN}}}\n"
    config = loaded(
        tmp_path, GOOD, over, sets=("exporters::bill::account=acct_2", "service.telemetry.logs.encoding=json")
    )
    bill: Any = config.exporters["bill"].config
    assert (bill.account, bill.api) == ("acct_2", "v2_stream")
    assert config.service.telemetry.logs.level == "warn"
    assert config.service.telemetry.logs.encoding == "json"


def test_text_field_keeps_text(tmp_path: Path) -> None:
    """A field that wants text gets the variable's text, whatever YAML makes of it."""
    for text in ("0123", "10", "1e3", "true", "null", "~", "[a]", "{a: b}", "a: b", "2024-01-01", "'q'", "#x", "*x"):
        config = loaded(tmp_path, GOOD, sets=("exporters::bill::account=${env:ACCOUNT}",), ACCOUNT=text)
        bill: Any = config.exporters["bill"].config
        assert bill.account == (None if text in ("null", "~") else text)


def test_secret_keeps_text(tmp_path: Path) -> None:
    """The same for a secret that is required."""
    for text in ("0123", "true", "null", "[a]", "a: b", "$$ ${x}"):
        config = loaded(tmp_path, GOOD, sets=("exporters::bill::api_key=${env:KEY}",), KEY=text)
        bill: Any = config.exporters["bill"].config
        assert bill.api_key.get_secret_value() == text


def test_typed_fields_from_the_environment(tmp_path: Path) -> None:
    """A field that wants no text gets the typed value."""
    sets = ("exporters::bill::verbose=${env:FLAG}", "processors::rules::policies=${env:POLICIES}")
    policies = "[{name: a, user: {query: q}, quantity: 0.10}]"
    config = loaded(tmp_path, GOOD, sets=sets, FLAG="true", POLICIES=policies)
    bill: Any = config.exporters["bill"].config
    rules: Any = config.processors["rules"].config
    assert bill.verbose is True
    assert rules.policies[0].quantity == Decimal("0.10")


def test_decimals_are_exact() -> None:
    """A number with a fraction is the decimal that stands in the file, never a float."""
    assert str(read_yaml("0.30000000000000000001")) == "0.30000000000000000001"
    assert isinstance(read_yaml("1e3"), Decimal)


def test_text_that_looks_like_something_else() -> None:
    """What YAML 1.1 would turn into booleans, dates and octal numbers stays text; so do keys."""
    assert read_yaml("[yes, no, on, off, 2024-01-01, 0123, 1:30, .inf, 1_000, 1e999999]") == [
        "yes", "no", "on", "off", "2024-01-01", "0123", "1:30", ".inf", "1_000", "1e999999",
    ]  # fmt: skip
    assert read_yaml("{404: a, true: b}") == {"404": "a", "true": "b"}


def test_anchors_and_merge_keys() -> None:
    """Anchors and `<<` work, and a key beside `<<` wins."""
    assert read_yaml("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}") == {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}


@pytest.mark.parametrize(
    "text", ["a: !!int x", "a: !!float x", "a: !!python/object:os.system x", "? [a]\n: 1", "<<: 3"]
)
def test_hostile_yaml(text: str) -> None:
    """Tags and keys beyond plain YAML are errors, never objects."""
    with pytest.raises(NotYaml):
        read_yaml(text)


def test_byte_order_mark(tmp_path: Path) -> None:
    """A byte order mark, as some editors write it, is no part of the first key."""
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbfservice: {}\n")
    assert read_source(str(file)) == {"service": {}}


def test_redacted(tmp_path: Path) -> None:
    """Secrets are shown as [REDACTED] wherever they stand, and the rest as it was written."""
    text = GOOD.replace("user: {header: x-account-id}", "user: {api_key: {header: x, hash: hmac, secret: s3cr3t}}")
    shown = loaded(tmp_path, text, sets=("exporters::bill::account=$${x}",)).redacted()
    assert "s3cr3t" not in shown
    assert "sk_live" not in shown
    tree = yaml.safe_load(shown)
    assert tree["exporters"]["bill"]["api_key"] == "[REDACTED]"
    assert tree["processors"]["rules"]["policies"][0]["user"]["api_key"]["secret"] == "[REDACTED]"
    assert tree["exporters"]["bill"]["account"] == "$${x}"
    assert list(tree) == ["receivers", "processors", "exporters", "extensions", "service"]


def test_redacted_reads_back(tmp_path: Path) -> None:
    """What print-config writes is the same configuration again, but for the secrets."""
    sets = (
        "exporters::bill::account=$$$${a}$$",
        "processors::rules::policies=[{name: a, user: {query: '0123'}, quantity: 0.10}]",
    )
    first = loaded(tmp_path, GOOD, sets=sets)
    second = loaded(tmp_path, first.redacted())
    assert second.exporters["bill"].config.account == "$${a}$"  # type: ignore[attr-defined]
    assert second.processors == first.processors
    assert second.redacted() == first.redacted()


def test_secrets_are_not_needed(tmp_path: Path) -> None:
    """With need_secrets=False, secrets whose variables are unset or empty are not missed; other mistakes are."""
    for env in ({}, {"KEY": ""}):
        config = loaded(tmp_path, GOOD, sets=("exporters::bill::api_key=${env:KEY}",), need_secrets=False, **env)
        assert "bill" in config.exporters
        assert "[REDACTED]" not in config.redacted()
    with pytest.raises(ConfigErrors, match="api: must be v1 or v2_stream") as caught:
        loaded(
            tmp_path,
            GOOD,
            sets=("exporters::bill::api_key=${env:KEY}", "exporters::bill::api=v3"),
            need_secrets=False,
        )
    assert len(caught.value.problems) == 1


def test_secret_that_is_not_written_is_missed(tmp_path: Path) -> None:
    """need_secrets=False forgives variables that are not set, not keys that are not there."""
    with pytest.raises(ConfigErrors, match="exporters::bill::api_key: is required"):
        loaded(tmp_path, GOOD, sets=("exporters::bill::api_key=",), need_secrets=False)


def test_remarks(tmp_path: Path) -> None:
    """Unset variables, unused components and the components' own remarks are warnings."""
    text = GOOD.replace("name: chat", "name: never")
    sets = ("exporters::bill::account=a${env:NOPE}", "extensions::disk/two=", "receivers::wire/b::protocols::http=")
    assert [str(warning) for warning in loaded(tmp_path, text, sets=sets).warnings] == [
        "exporters::bill::account: the environment variable NOPE is not set; it counts as empty",
        "receivers::wire/b: is configured but not used, so it is not started",
        "processors::rules::policies::0: never matches",
        "extensions::disk/two: is configured but not used, so it is not started",
    ]


def test_unused_component_needs_no_extension(tmp_path: Path) -> None:
    """What is not started may refer to an extension that is not started, but not to one that is not there."""
    bill = "exporters::bill/b={api_key: k, sending_queue: {storage: disk/b}}"
    loaded(tmp_path, GOOD, sets=(bill, "extensions::disk/b="))
    with pytest.raises(ConfigErrors, match="disk/b is not configured under extensions"):
        loaded(tmp_path, GOOD, sets=(bill,))
