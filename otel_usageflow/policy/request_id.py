"""The id that a request carries, where a policy takes it as the request's identity."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field, WrapValidator, model_validator

from otel_usageflow.config.types import ConfigModel
from otel_usageflow.model.attributes import Value
from otel_usageflow.policy.fields import Name, OneOrMany
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.header import HeaderName, header_keys, header_values
from otel_usageflow.policy.text import user_text

DIGEST_LENGTH: Final = 16
"""Bytes that are kept of an id's SHA-256."""


class RequestIdConfig(ConfigModel):
    """Where the id stands."""

    header: HeaderName | None = Field(
        default=None, description="the request header that carries the id", examples=["x-request-id"]
    )
    attribute: Name | None = Field(
        default=None, description="the span attribute that holds the id", examples=["guid:x-request-id"]
    )

    @model_validator(mode="after")
    def _one(self) -> "RequestIdConfig":
        if (self.header is None) == (self.attribute is None):
            raise ValueError("write either header: NAME or attribute: KEY; to try several in order, write a list")
        return self


def _none_or(value: Any, handler: Any) -> Any:
    return value if value == "none" else handler(value)


Several = Annotated[tuple[RequestIdConfig, ...], OneOrMany()]
RequestIdRule = Several | Annotated[Literal["none"], WrapValidator(_none_or)]
"""One or several places that are tried in order, or `none`."""


class Identify:
    """Reads the id of a request.

    Args:
        rules: where it may stand, tried in order.
        placeholders: texts that are no id.
        metadata: whether requests may be gRPC calls, whose headers are metadata.
    """

    __slots__ = ("_placeholders", "_places", "keys")

    def __init__(self, rules: Sequence[RequestIdConfig], placeholders: frozenset[str], *, metadata: bool) -> None:
        self._places: tuple[tuple[str, ...], ...] = tuple(
            (rule.attribute,) if rule.attribute is not None else header_keys(rule.header or "", metadata=metadata)
            for rule in rules
        )
        self._placeholders = placeholders
        self.keys: Final = frozenset(key for keys in self._places for key in keys)
        """The span attributes that it reads."""

    def digest(self, request: HttpRequest) -> bytes:
        """What is kept of the id; empty where the span has none, or several, or one of more than 500 characters."""
        for keys in self._places:
            values: list[Value] = header_values(request, keys)
            text = user_text(values, self._placeholders) if values else None
            if text is not None:
                return hashlib.sha256(text.encode()).digest()[:DIGEST_LENGTH]
        return b""
