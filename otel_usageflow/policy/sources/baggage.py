"""User from an entry of the W3C baggage that came with the request."""

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator, Field

from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.header import TOKEN, header_keys, header_texts
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import user_text


def _baggage_key(value: str) -> str:
    key = value.strip()
    if not TOKEN.fullmatch(key):
        raise ValueError(f"{value!r} is no key of baggage; write for example account.id")
    return key


class BaggageSource(Source):
    """`baggage: account.id`"""

    baggage: Annotated[str, AfterValidator(_baggage_key)] = Field(
        description="the key of a baggage entry", examples=["account.id"]
    )

    def reader(self, setting: Setting) -> Reader:
        """Read the entry from the header `baggage`; distinct values under one key are no user."""
        name, keys = self.baggage, header_keys("baggage", metadata=setting.metadata)

        def read(request: HttpRequest) -> str | None:
            lines = header_texts(request, keys, setting.placeholders)
            return user_text(_entries(lines, name), setting.placeholders) if lines else None

        return Reader(f"baggage {name}", read, frozenset(keys))


def _entries(lines: list[str], name: str) -> Iterator[str]:
    """All values under a key, percent-decoded, without their properties (W3C Baggage section 3.2)."""
    for line in lines:
        for member in line.split(","):
            key, equals, value = member.partition(";")[0].partition("=")
            if equals and key.strip(" \t") == name:
                yield unquote(value.strip(" \t"), errors="surrogateescape")
