"""User from a claim of a JSON Web Token."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WrapValidator, model_validator

from otel_usageflow.config.nearest import nearest
from otel_usageflow.config.types import ConfigModel, Duration, Secret, parse_duration
from otel_usageflow.policy.fields import Name, Names, OneOrMany, secret_is_missing
from otel_usageflow.policy.json_value import claim_values
from otel_usageflow.policy.jwt_claims import Verification, unverified_claims, verified_claims
from otel_usageflow.policy.jwt_keys import (
    PUBLIC_ALGORITHMS,
    SECRET_ALGORITHMS,
    VerificationKey,
    public_key_file,
    secret_key,
)
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

_ALGORITHMS = (*SECRET_ALGORITHMS, *PUBLIC_ALGORITHMS)


def _algorithm(value: Any) -> Any:
    if isinstance(value, str) and value not in _ALGORITHMS:
        if value.lower() == "none":
            raise ValueError("none is not a signature; to read tokens without verifying them, write `verify: none`")
        guess = nearest(value, _ALGORITHMS)
        raise ValueError(
            f"{value!r} is not a known algorithm{f'; did you mean {guess}?' if guess else ''} "
            f"(known: {', '.join(_ALGORITHMS)})"
        )
    return value


class Verify(ConfigModel):
    """How tokens are verified."""

    secret: Secret | None = Field(default=None, description="the shared secret of HS256, HS384 and HS512")
    public_key_file: Name | None = Field(default=None, description="a PEM file with a public key or certificate")
    algorithms: Annotated[tuple[Annotated[str, BeforeValidator(_algorithm)], ...], OneOrMany()] | None = Field(
        default=None, description="fewer than the key allows"
    )
    issuer: Names | None = Field(default=None, description="what `iss` must be")
    audience: Names | None = Field(default=None, description="what `aud` must name")
    leeway: Duration = Field(default=parse_duration("0s"), description="by how much clocks may differ")

    @model_validator(mode="after")
    def _one_key(self) -> "Verify":
        if self.secret is None and "secret" in self.model_fields_set:
            raise secret_is_missing("to verify tokens with; write secret: ${env:NAME}")
        if (self.secret is None) == (self.public_key_file is None):
            raise ValueError("needs either secret or public_key_file")
        allowed = SECRET_ALGORITHMS if self.secret is not None else PUBLIC_ALGORITHMS
        for name in self.algorithms or ():
            if name not in allowed:
                what = "a secret" if self.secret is not None else "a public key"
                raise ValueError(f"{what} does not allow the algorithm {name}; it allows {', '.join(allowed)}")
        return self

    def key(self) -> VerificationKey:
        """Prepare the key.

        Raises:
            ValueError: it cannot be used; the message says why.
        """
        if self.secret is not None:
            return secret_key(self.secret.get_secret_value(), self.algorithms)
        assert self.public_key_file is not None
        return public_key_file(self.public_key_file, self.algorithms)


def _read_verify(value: Any, _handler: Any) -> Any:
    if value == "none" or isinstance(value, Verify):
        return value
    if isinstance(value, dict):
        return Verify.model_validate(value)
    raise ValueError(
        "must say how tokens are verified: {secret: ...}, {public_key_file: ...}, or none where the API has "
        "verified them already"
    )


class Jwt(ConfigModel):
    """Where the token stands, how it is verified, and which claim is the user."""

    claim: Name = Field(description="a claim; `org.tenant` is `tenant` within `org`", examples=["sub"])
    header: HeaderName = "authorization"
    scheme: Annotated[str, BeforeValidator(scheme_name)] = "bearer"
    verify: Annotated[Literal["none"] | Verify, WrapValidator(_read_verify)] = Field(
        description="a key to verify with, or `none` where the API has verified the token already"
    )


class JwtSource(Source):
    """`jwt: {claim: sub, verify: none}`"""

    jwt: Jwt

    def reader(self, setting: Setting) -> Reader:
        """Read the claim of a token that was valid at the time of the request."""
        options = self.jwt
        keys = header_keys(options.header)
        steps = options.claim.split(".")
        claims = _claims(options)
        # A header of its own usually holds the bare token, so there the default scheme may be missing.
        optional_scheme = options.header != "authorization" and "scheme" not in options.model_fields_set

        def read(request: HttpRequest) -> str | None:
            text = one_text(header_values(request, keys))
            token = without_scheme(text, options.scheme) if text else None
            if token is None and optional_scheme and text and " " not in text:
                token = text
            return user_text(claim_values(claims(token, request), steps), setting.placeholders) if token else None

        return Reader(f"jwt claim {options.claim}", read, frozenset(keys))


def _claims(options: Jwt) -> Callable[[str, HttpRequest], Any]:
    verify = options.verify
    if isinstance(verify, str):
        return lambda token, _request: unverified_claims(token)
    verification = Verification(
        verify.key(),
        None if verify.issuer is None else frozenset(verify.issuer),
        None if verify.audience is None else frozenset(verify.audience),
        verify.leeway.total_seconds(),
    )
    return lambda token, request: verified_claims(token, verification, _moment(request))


def _moment(request: HttpRequest) -> float:
    """When the API judged the token: at the start of the request, or at its end if the start is not plausible."""
    start, end = request.span.start_time_unix_nano, request.span.end_time_unix_nano
    return (start if 0 < start <= end else end) / 1e9
