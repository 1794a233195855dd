"""What a span says about its gRPC call, in old and new semantic conventions alike.

Old: `rpc.system`, `rpc.service` and `rpc.method` apart, the status as a number. New (1.39): `rpc.system.name`, the
whole name under `rpc.method`, the status by its name; status and metadata are to be renamed once more. The newest win
where a span has several (`rpc/dup`). Sources: semantic-conventions docs/rpc/grpc.md, docs/rpc/rpc-spans.md, and the
pull requests 3921 and 4072; codes: grpc's doc/statuscodes.md.
"""

from functools import lru_cache
from typing import Final

from otel_usageflow.model.attributes import Found, Raw, decode_found
from otel_usageflow.policy.text import one_text

SYSTEMS: Final = ("rpc.system.name", "rpc.system")
STATUSES: Final = ("rpc.status_code", "rpc.response.status_code", "rpc.grpc.status_code")
KEYS: Final = frozenset({*SYSTEMS, *STATUSES, "rpc.method", "rpc.service", "rpc.method_original"})
"""What is read from every SERVER span where a policy has a gRPC endpoint."""
METADATA: Final = ("rpc.request.header.", "rpc.request.metadata.", "rpc.grpc.request.metadata.")
"""What the names of attributes with request metadata begin with; the key follows, in lower case."""
CODES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The name of each status code, by its number."""

# Go writes CamelCase, and one l in Canceled.
_NAMED: Final = {name.replace("_", ""): name for name in CODES} | {"CANCELED": "CANCELLED"}
_OTHER: Final = "_OTHER"


def code_named(text: str) -> str | None:
    """The status code of this name, in any spelling; None if there is no such code."""
    return _NAMED.get(text.strip().upper().replace("_", ""))


def is_grpc(found: Found) -> bool:
    """Whether a SERVER span with these attributes is a gRPC call."""
    for key in SYSTEMS:
        if key in found:
            return _is_grpc(found[key])
    return False


def method(found: Found) -> tuple[str | None, str | None]:
    """Service and method, such as `shop.Orders` and `Get`; None for what the span does not say."""
    name = (_text(found, "rpc.method") or "").removeprefix("/")
    if name == _OTHER:  # a method that the server does not have
        name = (_text(found, "rpc.method_original") or "").removeprefix("/")
    service, slash, rest = name.rpartition("/")
    if slash:
        return service or None, rest or None
    return _text(found, "rpc.service") or None, name or None


def full_method(found: Found) -> str | None:
    """The whole name, `shop.Orders/Get`; None unless the span says both parts."""
    service, name = method(found)
    return f"{service}/{name}" if service and name else None


def status(found: Found) -> str | None:
    """The name of the status code; None if the call ended without one, or with one that gRPC does not have."""
    for key in STATUSES:
        if key in found and (code := _status(found[key])) is not None:
            return code
    return None


@lru_cache(maxsize=64)
def _is_grpc(raw: Raw) -> bool:
    return (one_text((decode_found(raw),)) or "").lower() == "grpc"


@lru_cache(maxsize=1024)
def _status(raw: Raw) -> str | None:
    text = one_text((decode_found(raw),)) or ""
    if text.isascii() and text.isdigit() and len(text) < 4:
        return CODES[int(text)] if int(text) < len(CODES) else None
    return code_named(text)


def _text(found: Found, key: str) -> str | None:
    raw = found.get(key)
    return None if raw is None else one_text((decode_found(raw),))
