"""Moments and lengths of time on the command line: dates, times, how long ago, how long."""

import re
import time
from datetime import UTC, datetime

from otel_usageflow.config.types import parse_duration
from otel_usageflow.errors import UsageError

_DAYS = re.compile(r"(\d{1,9})d")
_NEVER = 253_402_300_800.0
"""The year 10000, in unix seconds; nothing is that far away, and the ledger's nanoseconds would not fit."""


def parse_moment(text: str, option: str) -> float:
    """Read a moment: `2026-11-22`, `2026-11-22T14:00:00Z`, unix seconds, or how long ago, as `24h` or `7d`.

    Without a zone it is UTC, because Stripe's days are.

    Returns:
        Unix seconds.

    Raises:
        UsageError: it is none of these.
    """
    try:
        moment = _moment(text)
    except ValueError:
        moment = _NEVER
    if abs(moment) >= _NEVER:
        raise UsageError(
            f"{option}: {text!r} is no moment; write 2026-11-22, 2026-11-22T14:00:00Z, unix seconds, "
            "or how long ago: 24h, 7d"
        )
    return moment


def _moment(text: str) -> float:
    if text.isascii() and text.isdigit() and len(text) >= 9:
        return float(text)
    if days := _DAYS.fullmatch(text):
        return time.time() - int(days[1]) * 86_400
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return time.time() - parse_duration(text).total_seconds()
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def parse_length(text: str, option: str) -> float:
    """Read a length of time, as `1h` or `90s`; seconds.

    Raises:
        UsageError: it is none.
    """
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def written(seconds: float) -> str:
    """A moment (unix seconds) as it is printed, in UTC to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
