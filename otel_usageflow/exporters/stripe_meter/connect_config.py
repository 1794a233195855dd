"""Configuration of `exporters::stripe_meter::connect`: how accounts are connected."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from otel_usageflow.config.section import STAND_IN
from otel_usageflow.config.types import ConfigModel, Secret
from otel_usageflow.errors import ConfigProblem, StartError
from otel_usageflow.exporters.stripe_meter.connect_keys import MAKE_A_KEY, KeyRing, UnusableKey

_LOCAL = ("localhost", "127.0.0.1", "::1")


def _client_id(text: str) -> str:
    if not re.fullmatch(r"ca_[A-Za-z0-9_]+", text):
        raise ValueError("is no client id; copy the one that begins with ca_ from the platform's Connect settings")
    return text


def _path(text: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9/._~-]+", text):
        raise ValueError("must be a path such as /connect/callback")
    return text


def _redirect(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.fragment or parts.query:
        raise ValueError(f"{text!r} is no address to come back to; write it as https://HOST/connect/callback")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise ValueError(
            "must be https, or http to localhost with a test key: codes would cross the network in clear"
        )
    return text


class ConnectConfig(ConfigModel):
    """Connecting other companies' Stripe accounts with OAuth."""

    client_id: Annotated[str, AfterValidator(_client_id)] = Field(
        description="The platform's client id (`ca_...`), of the mode of the key."
    )
    kind: Literal["oauth", "app"] = Field(
        default="oauth",
        description="`oauth`: Connect OAuth for Standard accounts; `app`: OAuth of a Stripe App.",
    )
    redirect_uri: Annotated[str, AfterValidator(_redirect)] = Field(
        description="The public address that reaches the callback; it must be among those that Stripe knows."
    )
    admin: str = Field(description="The id of the admin extension that serves the callback.")
    path: Annotated[str, AfterValidator(_path)] = Field(
        default="/connect/callback", description="Where the callback is on that extension."
    )
    scope: Literal["read_write"] = Field(
        default="read_write", description="What `oauth` asks for: usage is written, so nothing less will do."
    )
    client_secret: Secret | None = Field(
        default=None,
        description="The platform's secret key (`sk_...`), for OAuth only; without it, `api_key`. OAuth takes no "
        "restricted key.",
    )
    encryption_key_file: str | None = Field(default=None, description="A file with encryption keys, one a line.")
    encryption_key: Secret | None = Field(
        default=None,
        validate_default=True,
        description="Encrypts what is kept, and signs links; several keys, separated by spaces: the first one is "
        "used, the others only open what was encrypted with them.",
    )

    # On the field, not on the section: commands that need no secret must be able to do without this one.
    @field_validator("encryption_key")
    @classmethod
    def _one_key(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if (key is None) == (info.data.get("encryption_key_file") is None):
            raise ValueError(
                "give exactly one of encryption_key and encryption_key_file: nothing is stored unencrypted; "
                f"make a key with: {MAKE_A_KEY}"
            )
        return key


def problems_of(connect: ConnectConfig, mode: str) -> list[ConfigProblem]:
    """What is wrong with it beside a key of this mode, empty if it is not known; paths begin at `connect`."""
    found = []
    if connect.client_secret is not None:
        secret = connect.client_secret.get_secret_value().strip()
        if secret.startswith(("rk_", "pk_")):
            found.append(
                ConfigProblem("connect::client_secret", "must be a secret key (sk_...): OAuth takes no other")
            )
        elif secret != STAND_IN and mode and ("_test_" in secret) != (mode == "test"):
            found.append(ConfigProblem("connect::client_secret", f"is not of the mode of api_key, which is {mode}"))
    if mode == "live" and urlsplit(connect.redirect_uri).scheme != "https":
        found.append(ConfigProblem("connect::redirect_uri", "must be https with a live key"))
    if connect.encryption_key is not None and connect.encryption_key.get_secret_value() != STAND_IN:
        try:
            KeyRing.of_text(connect.encryption_key.get_secret_value())
        except UnusableKey as error:
            found.append(ConfigProblem("connect::encryption_key", str(error)))
    return found


def remarks_on(connect: ConnectConfig, api_key: str) -> list[ConfigProblem]:
    """What may go wrong with it; paths begin at `connect`."""
    if connect.client_secret is None and api_key.startswith("rk_"):
        advice = "give the platform's secret key: OAuth takes no restricted key, as api_key is"
        return [ConfigProblem("connect::client_secret", advice)]
    return []


def key_ring(config: ConnectConfig, path: str) -> KeyRing:
    """The keys that a configuration names.

    Raises:
        StartError: there are none, or they cannot be used. `path` is that of the section.
    """
    if config.encryption_key is not None:
        where, text = f"{path}::encryption_key", config.encryption_key.get_secret_value()
    else:
        where, file = f"{path}::encryption_key_file", Path(config.encryption_key_file or "")
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"{where}: cannot read {file}: {error}; make a key with: {MAKE_A_KEY}") from error
    try:
        return KeyRing.of_text(text)
    except UnusableKey as error:
        raise StartError(f"{where}: {error}") from error
