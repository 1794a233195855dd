"""Durations, endpoints and sections, by example."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from otel_usageflow.config.types import ConfigModel, HostPort, Secret, format_duration, parse_duration, parse_endpoint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("300ms", timedelta(milliseconds=300)),
        ("1.5h", timedelta(minutes=90)),
        ("1m30s", timedelta(seconds=90)),
        (".5s", timedelta(milliseconds=500)),
        ("10µs", timedelta(microseconds=10)),
        ("0", timedelta(0)),
        (0, timedelta(0)),
        (" 10s ", timedelta(seconds=10)),
    ],
)
def test_durations(text: Any, expected: timedelta) -> None:
    """Go's durations are read."""
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "10", 10, "10 s", "10d", "-1s", "1s2", "s", "1e3s", True, None, "9999999999999h"]
)
def test_no_durations(text: Any) -> None:
    """A number without a unit, a day, a sign and everything else is none."""
    with pytest.raises(ValueError, match=r"is not a duration|is too long"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1h", "1h"), ("90m", "90m"), ("60s", "1m"), ("1500ms", "1500ms"), ("5us", "5us"), ("0", "0s")],
)
def test_durations_are_written_short(text: str, expected: str) -> None:
    """A duration is written in the largest unit in which it is a whole number."""
    assert format_duration(parse_duration(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:4317", ("127.0.0.1", 4317)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:4317", ("::1", 4317)),
        (":4317", ("0.0.0.0", 4317)),
    ],
)
def test_endpoints(text: str, expected: tuple[str, int]) -> None:
    """Hosts, IPv6 addresses in brackets, and a port alone are read and written back."""
    assert parse_endpoint(text) == expected
    assert parse_endpoint(str(parse_endpoint(text))) == HostPort(*expected)


@pytest.mark.parametrize(
    "text", ["", "4317", 4317, "localhost", "localhost:", "localhost:x", "a:65536", "::1:4317", "a:-1"]
)
def test_no_endpoints(text: Any) -> None:
    """Without a port, with a wrong one, or with an IPv6 address that has no brackets, it is none."""
    with pytest.raises(ValueError, match="is not an endpoint"):
        parse_endpoint(text)


class Inner(ConfigModel):
    size: int = 1


class Outer(ConfigModel):
    inner: Inner | None = None
    several: list[Inner] = []
    number: int = 2
    secret: Secret | None = None


def test_null() -> None:
    """A section without a value is there, with its defaults; any other key without a value is not written."""
    outer = Outer.model_validate({"inner": None, "several": None, "number": None, "secret": None})
    assert (outer.inner, outer.several, outer.number, outer.secret) == (Inner(), [], 2, None)
    assert Outer().inner is None


def test_unknown_key_without_value() -> None:
    """An unknown key is a mistake even without a value."""
    with pytest.raises(ValidationError, match="nmber"):
        Outer.model_validate({"nmber": None})


def test_secrets_do_not_show() -> None:
    """A secret is in no representation, and is never blank."""
    outer = Outer.model_validate({"secret": "sk_live"})
    assert "sk_live" not in f"{outer!r} {outer} {outer.model_dump()} {outer.model_dump_json()}"
    with pytest.raises(ValidationError, match="is empty"):
        Outer.model_validate({"secret": " "})
