"""User from a request header that the instrumentation captured."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from otel_usageflow.model.attributes import Value, decode_found
from otel_usageflow.policy.grpc import METADATA
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import scalar_text, user_text

PREFIX: Final = "http.request.header."
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A name in a header, or of one (RFC 9110 section 5.6.2)."""


def _header_name(value: str) -> str:
    name = value.strip().lower()
    if name.startswith(PREFIX):
        raise ValueError(f"write only the header's name: {name.removeprefix(PREFIX).replace('_', '-')}")
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{value!r} is not the name of a header; write for example x-account-id")
    return name


HeaderName = Annotated[str, AfterValidator(_header_name)]
"""In lower case, without the attribute's prefix."""


def header_keys(name: str, *, metadata: bool) -> tuple[str, ...]:
    """The attributes that may hold a header: instrumentations differ on `-` and `_`.

    With `metadata` also those of a gRPC call, of which headers are the request's metadata.
    """
    spellings = dict.fromkeys((name, name.replace("-", "_"), name.replace("_", "-")))
    return tuple(prefix + one for prefix in (PREFIX, *(METADATA if metadata else ())) for one in spellings)


def header_values(request: HttpRequest, keys: tuple[str, ...]) -> list[Value]:
    """All that the request has under these attributes."""
    found = request.found
    return [decode_found(found[key]) for key in keys if key in found]


def header_texts(request: HttpRequest, keys: tuple[str, ...], placeholders: frozenset[str]) -> list[str] | None:
    """All lines of a header that has a syntax of its own; None if one is no text, or was redacted."""
    lines: list[str] = []
    for value in header_values(request, keys):
        for element in value if isinstance(value, list) else (value,):
            text = scalar_text(element)
            if text is None or (text and text in placeholders):
                return None
            if text not in lines:  # a span may have the header in both spellings
                lines.append(text)
    return lines


class HeaderSource(Source):
    """`header: x-account-id`"""

    header: HeaderName = Field(description="the name of a request header", examples=["x-account-id"])

    def reader(self, setting: Setting) -> Reader:
        """Read the header in both spellings; two distinct values are no user."""
        keys = header_keys(self.header, metadata=setting.metadata)

        def read(request: HttpRequest) -> str | None:
            return user_text(header_values(request, keys), setting.placeholders)

        return Reader(f"header {self.header}", read, frozenset(keys), lasting=True)


def without_scheme(text: str, scheme: str | None) -> str | None:
    """A credential without its scheme (RFC 9110 11.4, any case); None if it has another one or none."""
    if not scheme:
        return text
    head, _, rest = text.partition(" ")
    return rest.strip() if head.lower() == scheme.lower() else None


def scheme_name(value: Any) -> str:
    """Check the name of an authentication scheme; empty means that there is none.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or (value and not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value)):
        raise ValueError("is not an authentication scheme; write for example bearer")
    return value.lower()
