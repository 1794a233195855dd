"""Configuration of `exporters::stripe_meter::webhook`: where Stripe tells of changes."""

import re
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from otel_usageflow.config.section import STAND_IN
from otel_usageflow.config.types import ConfigModel, Duration, Secret

_LONGEST = timedelta(hours=1)


def _path(text: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9/._~-]+", text):
        raise ValueError("must be a path such as /stripe/webhook")
    return text


def _signing_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if text != STAND_IN and not re.fullmatch(r"whsec_[\x21-\x7e]+", text):
        raise ValueError(
            "is no signing secret; copy the one that begins with whsec_ from the endpoint's page in Stripe"
        )
    return SecretStr(text)


SigningSecret = Annotated[Secret, AfterValidator(_signing_secret)]


class WebhookConfig(ConfigModel):
    """Hearing of changes at once, instead of looking for them."""

    admin: str = Field(description="The id of the admin extension that Stripe can reach, for example admin/public.")
    path: Annotated[str, AfterValidator(_path)] = Field(
        default="/stripe/webhook", description="Where the webhook is on that extension."
    )
    signing_secret: SigningSecret | None = Field(
        default=None,
        description="The endpoint's signing secret (`whsec_...`), for example ${env:STRIPE_WEBHOOK_SECRET}.",
    )
    signing_secrets: list[SigningSecret] = Field(
        default=[],
        description="Several of them: of an endpoint for snapshot events and one for thin events, or of before and "
        "after a rotation.",
    )
    tolerance: Duration = Field(
        default=timedelta(minutes=5), description="How old a delivery may be; older ones may have been recorded."
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.signing_secret is None and not self.signing_secrets:
            raise ValueError("needs signing_secret, or a list of them as signing_secrets")
        if not timedelta(seconds=1) <= self.tolerance <= _LONGEST:
            raise ValueError("tolerance must be from 1s to 1h")
        return self

    @property
    def secrets(self) -> list[str]:
        """All signing secrets."""
        one = [] if self.signing_secret is None else [self.signing_secret]
        return [secret.get_secret_value() for secret in (*one, *self.signing_secrets)]
