"""Moments on the command line, by example."""

import time

import pytest

from otel_usageflow.cli.moments import parse_moment
from otel_usageflow.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970-01-02T00:00:00Z", 86_400),
        ("1970-01-02T02:00:00+02:00", 86_400),
        ("1790000000", 1_790_000_000),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    """Dates and times are UTC unless they say otherwise; nine digits are unix seconds."""
    assert parse_moment(text, "--since") == seconds


@pytest.mark.parametrize(("text", "ago"), [("0s", 0), ("90m", 5_400), ("24h", 86_400), ("7d", 604_800)])
def test_how_long_ago(text: str, ago: float) -> None:
    """A duration, or days, is so long before now."""
    assert parse_moment(text, "--since") == pytest.approx(time.time() - ago, abs=5)


@pytest.mark.parametrize("text", ["", "yesterday", "5", "-5h", "2026-13-01", "9" * 20, "9" * 20 + "d"])
def test_no_moments(text: str) -> None:
    """What is none, or too far away for any clock, is a usage error with the option's name."""
    with pytest.raises(UsageError, match="--since"):
        parse_moment(text, "--since")
