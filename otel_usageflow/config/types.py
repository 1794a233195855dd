"""The values that occur in configurations: durations, endpoints, secrets.

Each is parsed once, at the edge, and printed back in the form in which it was written.
"""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
    model_validator,
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
    """A section of the configuration: unknown keys are errors, and nothing changes after it was read.

    A key without a value counts as not written, but a sub-section without a value (`grpc:`) is that section
    with its defaults, as in the Collector.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, data: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        keys = set(fields)
        sections = {key for key, field in fields.items() if _is_section((field.annotation, *field.metadata))}
        return {
            key: {} if value is None and key in sections else value
            for key, value in data.items()
            if value is not None or key in sections or key not in keys
        }


def _is_section(annotation: Any) -> bool:
    """Whether the annotation is one section, perhaps optional; a choice between several is none."""
    return sum(_sections(part) for part in annotation) == 1


def _sections(annotation: Any) -> int:
    if isinstance(annotation, type) and issubclass(annotation, ConfigModel):
        return 1
    if hasattr(annotation, "__origin__") and isinstance(annotation.__origin__, type):
        return 2 if any(_sections(part) for part in get_args(annotation)) else 0
    return sum(_sections(part) for part in get_args(annotation))


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
    try:
        return timedelta(microseconds=float(sum(Decimal(number) * _UNITS[unit] for number, unit in parts)))
    except OverflowError:
        raise ValueError(f"{value!r} is too long") from None


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


def _not_blank(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        raise ValueError("is empty")
    return secret


Secret = Annotated[
    SecretStr,
    AfterValidator(_not_blank),
    PlainSerializer(lambda _secret: "[REDACTED]"),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "writeOnly": True,
            "description": "a secret; write ${env:NAME}",
        }
    ),
]
"""Text that is never printed, and not blank.

Strip and use it with `.get_secret_value()` where it leaves the process, nowhere else.
"""
