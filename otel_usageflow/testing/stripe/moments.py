"""Times as `/v2` writes and reads them: RFC 3339."""

from datetime import UTC, datetime
from typing import Any

from otel_usageflow.testing.stripe.failures import invalid


def rfc3339(moment: float) -> str:
    """A moment as v2 shows it, with milliseconds: `2026-11-22T12:00:10.000Z`."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(name: str, raw: Any) -> float:
    """A parameter that is a moment, in unix seconds.

    Raises:
        StripeFailure: 400, it is none.
    """
    try:
        read = datetime.fromisoformat(raw)
    except (TypeError, ValueError):
        raise invalid(f"{name} must be a timestamp such as 2026-11-22T12:00:00Z.", name) from None
    if read.tzinfo is None or "T" not in raw:
        raise invalid(f"{name} must be a timestamp with its offset, such as 2026-11-22T12:00:00Z.", name)
    return read.timestamp()
