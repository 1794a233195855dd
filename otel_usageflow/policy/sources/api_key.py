"""User from an API key, of which only a digest leaves the process."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from otel_usageflow.config.types import ConfigModel, Secret
from otel_usageflow.model.attributes import Value
from otel_usageflow.policy.fields import Name, secret_is_missing
from otel_usageflow.policy.http import QUERY_KEYS, query_values
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.header import (
    HeaderName,
    header_keys,
    header_values,
    scheme_name,
    without_scheme,
)
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import is_user, one_text
from otel_usageflow.policy.transform import transform


class ApiKey(ConfigModel):
    """Where the key stands, and what is made of it."""

    header: HeaderName | None = Field(default=None, description="the header that carries the key")
    query: Name | None = Field(default=None, description="the query parameter that carries the key")
    scheme: Annotated[str, BeforeValidator(scheme_name)] | None = Field(
        default=None, description="what stands before the key in the header, for example bearer"
    )
    hash: Literal["sha256", "hmac-sha256", "none"] = Field(
        default="sha256", description="what the user is: the key's hex digest, or with `none` the key itself"
    )
    secret: Secret | None = Field(default=None, description="the key of hmac-sha256")

    @model_validator(mode="after")
    def _whole(self) -> "ApiKey":
        if (self.header is None) == (self.query is None):
            raise ValueError("needs either header or query, to say where the key is")
        if self.scheme and self.header is None:
            raise ValueError("scheme belongs to a header; a query parameter has none")
        if self.hash == "hmac-sha256" and self.secret is None:
            raise secret_is_missing("by hash: hmac-sha256; write secret: ${env:NAME}")
        if self.hash != "hmac-sha256" and self.secret is not None:
            raise ValueError("secret is used by hash: hmac-sha256 only")
        return self


class ApiKeySource(Source):
    """`api_key: {header: x-api-key}`"""

    api_key: ApiKey

    def prepared(self, setting: Setting) -> Reader:
        """Prepare the source; the key is transformed before its digest is taken."""
        return self.reader(setting)

    def reader(self, setting: Setting) -> Reader:
        """Read the key, and answer with its digest."""
        options = self.api_key
        digest = _digest(options)
        headers = header_keys(options.header, metadata=setting.metadata) if options.header else ()
        keys = frozenset(headers) or QUERY_KEYS
        place = f"header {options.header}" if options.header else f"query {options.query}"
        values = _values(options, headers)
        change = transform(self.transform, setting.placeholders)

        def read(request: HttpRequest) -> str | None:
            text = one_text(values(request))
            token = without_scheme(text, options.scheme) if text else None
            if not token or token in setting.placeholders:
                return None
            key = change(token)
            user = None if key is None else digest(key)
            return user if user is not None and is_user(user, setting.placeholders) else None

        return Reader(f"api_key {place}", read, keys)


def _values(options: ApiKey, headers: tuple[str, ...]) -> Callable[[HttpRequest], list[Value]]:
    if headers:
        return lambda request: header_values(request, headers)
    name = options.query or ""
    return lambda request: query_values(request.found, request.origin.scope, name)


def _digest(options: ApiKey) -> Callable[[str], str]:
    if options.hash == "sha256":
        return lambda token: hashlib.sha256(token.encode()).hexdigest()
    if options.secret is not None:
        secret = options.secret.get_secret_value().strip().encode()
        return lambda token: hmac.digest(secret, token.encode(), "sha256").hex()
    return str
