"""How tokens are verified, as it is written in the configuration."""

import ipaddress
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from otel_usageflow.config.nearest import nearest
from otel_usageflow.config.types import ConfigModel, Duration, Secret, parse_duration
from otel_usageflow.policy.fields import Name, Names, OneOrMany, secret_is_missing
from otel_usageflow.policy.jwt_jwks import read_key_set
from otel_usageflow.policy.jwt_keys import (
    ALGORITHMS,
    PUBLIC_ALGORITHMS,
    SECRET_ALGORITHMS,
    key_file,
    public_key_file,
    secret_key,
)


def _algorithm(value: Any) -> Any:
    if isinstance(value, str) and value not in ALGORITHMS:
        if value.lower() == "none":
            raise ValueError("none is not a signature; to read tokens without verifying them, write `verify: none`")
        guess = nearest(value, ALGORITHMS)
        raise ValueError(
            f"{value!r} is not a known algorithm{f'; did you mean {guess}?' if guess else ''} "
            f"(known: {', '.join(ALGORITHMS)})"
        )
    return value


def _address(value: str) -> str:
    """Keys decide who pays, so they come over a connection that nobody else can change."""
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host = None
        parts = urlsplit("")
    if not host or parts.scheme not in ("https", "http") or any(char.isspace() for char in value):
        raise ValueError("is not the address of a key set; write for example https://id.example.com/jwks.json")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password; key sets are public")
    if parts.fragment:
        raise ValueError("must not hold a fragment (#)")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("must begin with https:// unless it is on this machine: keys decide who pays")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Verify(ConfigModel):
    """How tokens are verified."""

    jwks_url: Annotated[Name, AfterValidator(_address)] | None = Field(
        default=None,
        description="the address of a JSON Web Key Set, with https",
        examples=["https://id.example.com/jwks.json"],
    )
    jwks_file: Name | None = Field(default=None, description="a file with a JSON Web Key Set")
    public_key_file: Name | None = Field(default=None, description="a PEM file with a public key or certificate")
    secret: Secret | None = Field(default=None, description="the shared secret of HS256, HS384 and HS512")
    algorithms: Annotated[tuple[Annotated[str, BeforeValidator(_algorithm)], ...], OneOrMany()] | None = Field(
        default=None, description="fewer than the keys allow"
    )
    issuer: Names | None = Field(default=None, description="what `iss` must be")
    audience: Names | None = Field(default=None, description="what `aud` must name")
    leeway: Duration = Field(default=parse_duration("0s"), description="by how much clocks may differ")

    @model_validator(mode="after")
    def _one_place(self) -> "Verify":
        if self.secret is None and "secret" in self.model_fields_set:
            raise secret_is_missing("to verify tokens with; write secret: ${env:NAME}")
        places = (self.jwks_url, self.jwks_file, self.public_key_file, self.secret)
        if sum(place is not None for place in places) != 1:
            raise ValueError("needs one of jwks_url, jwks_file, public_key_file or secret")
        for name in self.algorithms or ():
            if name not in self.possible:
                what = "a secret" if self.secret is not None else "a public key"
                raise ValueError(f"{what} does not allow the algorithm {name}; it allows {', '.join(self.possible)}")
        return self

    @property
    def possible(self) -> tuple[str, ...]:
        """The algorithms that such keys can allow."""
        if self.secret is not None:
            return SECRET_ALGORITHMS
        return ALGORITHMS if self.jwks_file is not None else PUBLIC_ALGORITHMS

    def check(self) -> None:
        """Look whether the key can be used; addresses are not asked.

        Raises:
            ValueError: it cannot; the message says which and why.
        """
        if self.secret is not None:
            secret_key(self.secret.get_secret_value(), self.algorithms)
        elif self.public_key_file is not None:
            public_key_file(self.public_key_file, self.algorithms)
        elif self.jwks_file is not None:
            read_key_set(key_file(self.jwks_file), self.jwks_file, self.algorithms)
