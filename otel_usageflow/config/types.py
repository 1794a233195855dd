"""The values that occur in configurations: durations, endpoints, secrets.

Each is parsed once, at the edge, and printed back in the form in which it was written.
"""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
)

_UNITS = {
    "ns": Decimal("0.001"),
    "us": Decimal(1),
    "µs": Decimal(1),
    "ms": Decimal(1_000),
    "s": Decimal(1_000_000),
    "m": Decimal(60_000_000),
    "h": Decimal(3_600_000_000),
}
_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ns|us|µs|ms|s|m|h)")


class ConfigModel(BaseModel):
    """A section of the configuration: unknown keys are errors, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_duration(value: Any) -> timedelta:
    """Read a Go duration such as `300ms`, `1.5h` or `1m30s`; see Go's `time.ParseDuration`.

    Raises:
        ValueError: it is none. Bare numbers are not durations, except 0.
    """
    if isinstance(value, timedelta):
        return value
    text = str(value).strip() if not isinstance(value, bool) else "?"
    if text == "0":
        return timedelta(0)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is not a duration; write it with units, as in 300ms, 10s or 1m30s")
    return timedelta(microseconds=float(sum(Decimal(number) * _UNITS[unit] for number, unit in parts)))


def format_duration(value: timedelta) -> str:
    """Write a duration in the form that `parse_duration` reads, in the largest unit that is exact."""
    microseconds = round(value / timedelta(microseconds=1))
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)):
        if microseconds and microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    return f"{microseconds}us" if microseconds else "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "examples": ["10s", "1m30s"], "description": "a duration with units"}),
]


class HostPort(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(value: Any) -> HostPort:
    """Read `host:port`, `[::1]:port` or `:port` (all interfaces).

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, HostPort):
        return value
    host, colon, port = str(value).strip().rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{value!r} is not an endpoint; write host:port, as in 127.0.0.1:4317")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{value!r} is not an endpoint; put an IPv6 address in brackets, as in [::1]:4317")
    return HostPort(host or "0.0.0.0", int(port))  # noqa: S104  (what a missing host means in the Collector)


Endpoint = Annotated[
    HostPort,
    BeforeValidator(parse_endpoint),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:4317"], "description": "host:port"}),
]

Secret = Annotated[
    SecretStr,
    PlainSerializer(lambda _secret: "[REDACTED]"),
    WithJsonSchema({"type": "string", "description": "a secret; write ${env:NAME}"}),
]
"""Text that is never printed. Strip and use it with `.get_secret_value()` where it leaves the process, nowhere else."""
