"""User from the certificate that a client showed to the server, or to a proxy before it."""

from collections.abc import Iterable
from typing import Final, Literal

from pydantic import Field, model_validator

from otel_usageflow.model.attributes import Value
from otel_usageflow.policy.certificates import common_names, fingerprint, forwarded
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.header import header_keys, header_texts
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import one_text, user_text

_ATTRIBUTES: Final = {
    "subject": "tls.client.subject",
    "common_name": "tls.client.subject",
    "hash": "tls.client.hash.sha256",
}
"""Part of a certificate -> the attribute of the semantic conventions (docs/registry/attributes/tls.md)."""
_FORWARDED: Final = {"subject": "subject", "common_name": "subject", "hash": "hash", "uri": "uri", "dns": "dns"}
"""Part of a certificate -> its key in `x-forwarded-client-cert`."""


class ClientCertificateSource(Source):
    """`client_certificate: subject`, with `via: xfcc` or `via: tls` if only one of them is meant"""

    client_certificate: Literal["subject", "common_name", "uri", "dns", "hash"] = Field(
        description="which part of the certificate is the user"
    )
    via: Literal["tls", "xfcc"] | None = Field(
        default=None,
        description="where to look: the attributes tls.client.*, or the header x-forwarded-client-cert; "
        "both, the attributes first, if left out",
    )
    element: Literal["first", "last"] | None = Field(
        default=None,
        description="which one, where several proxies have written into the header; if left out, they have to agree",
    )

    @model_validator(mode="after")
    def _possible(self) -> "ClientCertificateSource":
        if self.via == "tls" and self.client_certificate not in _ATTRIBUTES:
            raise ValueError(f"no attribute tls.client.* holds the {self.client_certificate}; write via: xfcc")
        if self.via == "tls" and self.element is not None:
            raise ValueError("element belongs to the header x-forwarded-client-cert; via: tls reads attributes")
        return self

    def reader(self, setting: Setting) -> Reader:
        """Read the attribute, then, where that is no user, the header."""
        part, element = self.client_certificate, self.element
        attribute = _ATTRIBUTES.get(part) if self.via != "xfcc" else None
        keys = header_keys("x-forwarded-client-cert", metadata=setting.metadata) if self.via != "tls" else ()

        def read(request: HttpRequest) -> str | None:
            user = None
            text = one_text((request.span_value(attribute),)) if attribute is not None else None
            if text and text not in setting.placeholders:
                user = user_text(_taken(part, [text]), setting.placeholders)
            if user is None and keys and (lines := header_texts(request, keys, setting.placeholders)):
                user = user_text(_taken(part, _forwarded(lines, part, element)), setting.placeholders)
            return user

        span_keys = frozenset(keys) if attribute is None else frozenset({attribute, *keys})
        return Reader(f"client_certificate {part}", read, span_keys)


def _forwarded(lines: list[str], part: str, element: str | None) -> list[str | None]:
    """What the elements say; None for one that does not say it, or for a line that is cut off."""
    found: list[str | None] = []
    chosen = []
    for line in lines:
        elements = forwarded(line)
        if elements is None:
            return [None]
        chosen += elements
    if element is not None:
        chosen = chosen[:1] if element == "first" else chosen[-1:]
    for one in chosen:
        found += one.get(_FORWARDED[part]) or [None]
    return found


def _taken(part: str, texts: Iterable[str | None]) -> list[Value]:
    values: list[Value] = []
    for text in texts:
        if text is None:
            values.append(None)
        elif part == "common_name":
            values += common_names(text) or [None]
        else:
            values.append(fingerprint(text) if part == "hash" else text)
    return values
