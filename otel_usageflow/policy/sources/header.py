"""User from a request header that the instrumentation captured."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from otel_usageflow.model.attributes import Value, decode_found
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import user_text

PREFIX: Final = "http.request.header."
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")


def _header_name(value: str) -> str:
    name = value.strip().lower()
    if name.startswith(PREFIX):
        raise ValueError(f"write only the header's name: {name.removeprefix(PREFIX).replace('_', '-')}")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{value!r} is not the name of a header; write for example x-account-id")
    return name


HeaderName = Annotated[str, AfterValidator(_header_name)]
"""In lower case, without the attribute's prefix."""


def header_keys(name: str) -> tuple[str, ...]:
    """The attributes that may hold a header: instrumentations differ on `-` and `_`."""
    return tuple(dict.fromkeys(PREFIX + one for one in (name, name.replace("-", "_"), name.replace("_", "-"))))


def header_values(request: HttpRequest, keys: tuple[str, ...]) -> list[Value]:
    """All that the request has under these attributes."""
    found = request.found
    return [decode_found(found[key]) for key in keys if key in found]


class HeaderSource(Source):
    """`header: x-account-id`"""

    header: HeaderName = Field(description="the name of a request header", examples=["x-account-id"])

    def reader(self, setting: Setting) -> Reader:
        """Read the header in both spellings; two distinct values are no user."""
        keys = header_keys(self.header)

        def read(request: HttpRequest) -> str | None:
            return user_text(header_values(request, keys), setting.placeholders)

        return Reader(f"header {self.header}", read, frozenset(keys))


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
