"""User from a claim of a JSON Web Token."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WrapValidator, model_validator

from otel_usageflow.config.types import ConfigModel
from otel_usageflow.model.attributes import Value
from otel_usageflow.policy.cookies import cookie_values
from otel_usageflow.policy.fields import Name
from otel_usageflow.policy.http import QUERY_KEYS, query_values
from otel_usageflow.policy.json_value import claim_values
from otel_usageflow.policy.jwt_cause import Cause
from otel_usageflow.policy.jwt_config import Verify
from otel_usageflow.policy.jwt_token import unverified_claims
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.header import (
    HeaderName,
    header_keys,
    header_values,
    scheme_name,
    without_scheme,
)
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import one_text, user_text


def _read_verify(value: Any, _handler: Any) -> Any:
    if value == "none" or isinstance(value, Verify):
        return value
    if isinstance(value, dict):
        return Verify.model_validate(value)
    raise ValueError(
        "must say how tokens are verified: {jwks_url: ...}, {jwks_file: ...}, {public_key_file: ...}, {secret: ...}, "
        "or none where the API has verified them already"
    )


class Jwt(ConfigModel):
    """Where the token stands, how it is verified, and which claim is the user."""

    claim: Name = Field(description="a claim; `org.tenant` is `tenant` within `org`", examples=["sub"])
    header: HeaderName = Field(default="authorization", description="the header that carries the token")
    scheme: Annotated[str, BeforeValidator(scheme_name)] = Field(
        default="bearer", description="what stands before the token in the header"
    )
    cookie: Name | None = Field(default=None, description="the cookie that carries the token, instead of a header")
    query: Name | None = Field(default=None, description="the query parameter that does")
    verify: Annotated[Literal["none"] | Verify, WrapValidator(_read_verify)] = Field(
        description="keys to verify with, or `none` where the API has verified the token already"
    )

    @model_validator(mode="after")
    def _one_carrier(self) -> "Jwt":
        written = [key for key in ("header", "cookie", "query") if key in self.model_fields_set]
        if len(written) > 1:
            raise ValueError(f"{' and '.join(written)}: write only one of them, to say where the token is")
        if "scheme" in self.model_fields_set and written not in ([], ["header"]):
            raise ValueError(f"scheme belongs to a header; a {written[0]} has none")
        return self


class JwtSource(Source):
    """`jwt: {claim: sub, verify: none}`"""

    jwt: Jwt

    def reader(self, setting: Setting) -> Reader:
        """Read the claim of a token that was valid at the time of the request."""
        options = self.jwt
        carried, keys = _carrier(options, setting)
        judge = _judge(options, setting)
        policy, trust = setting.policy, setting.trust
        trust.expect(policy)

        def read(request: HttpRequest) -> str | None:
            token = carried(request)
            if not token or token in setting.placeholders:
                return None
            user = judge(token, request)
            if isinstance(user, Cause):
                trust.refuse(policy, user)
                return None
            return user

        return Reader(f"jwt claim {options.claim}", read, frozenset(keys))


def _carrier(options: Jwt, setting: Setting) -> tuple[Callable[[HttpRequest], str | None], frozenset[str]]:
    """What reads the token from a request, and the attributes that it needs for that."""
    if options.query is not None:
        query = options.query
        return lambda request: one_text(query_values(request.found, request.origin.scope, query)), QUERY_KEYS
    if options.cookie is not None:
        cookie, cookies = options.cookie, header_keys("cookie", metadata=setting.metadata)
        return lambda request: one_text(cookie_values(header_values(request, cookies), cookie)), frozenset(cookies)
    keys, scheme = header_keys(options.header, metadata=setting.metadata), options.scheme
    # A header of its own usually holds the bare token, so there the default scheme may be missing.
    optional_scheme = options.header != "authorization" and "scheme" not in options.model_fields_set

    def from_header(request: HttpRequest) -> str | None:
        values: list[Value] = header_values(request, keys)
        text = one_text(values)
        token = without_scheme(text, scheme) if text else None
        return text if token is None and optional_scheme and text and " " not in text else token

    return from_header, frozenset(keys)


def _judge(options: Jwt, setting: Setting) -> Callable[[str, HttpRequest], str | Cause]:
    verify = options.verify
    if isinstance(verify, str):
        steps = options.claim.split(".")

        def unverified(token: str, _request: HttpRequest) -> str | Cause:
            claims = unverified_claims(token)
            if claims is None:
                return Cause.MALFORMED
            return user_text(claim_values(claims, steps), setting.placeholders) or Cause.NO_CLAIM

        return unverified
    verifier = setting.trust.verifier(verify, options.claim, setting.placeholders)
    return lambda token, request: verifier.user(token, _moment_ns(request))


def _moment_ns(request: HttpRequest) -> int:
    """When the API judged the token: at the start of the request, or at its end if the start is not plausible."""
    start, end = request.span.start_time_unix_nano, request.span.end_time_unix_nano
    return start if 0 < start <= end else end
