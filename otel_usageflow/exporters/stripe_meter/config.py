"""Configuration of `exporters::stripe_meter`."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from otel_usageflow.config.types import ConfigModel, Duration, Secret
from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.exporters.stripe_meter.connect_config import ConnectConfig
from otel_usageflow.exporters.stripe_meter.webhook_config import WebhookConfig


def _usable_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value().strip()
    if not text:
        raise ValueError("is empty; give a Stripe secret or restricted key, for example ${env:STRIPE_API_KEY}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("is no Stripe key: it has characters that no key has")
    if text.startswith("pk_"):
        raise ValueError("is a publishable key; metering needs a secret (sk_...) or restricted (rk_...) key")
    return SecretStr(text)


class Endpoints(ConfigModel):
    """Base URLs, for a test double."""

    api: str = "https://api.stripe.com"
    meter_events: str = "https://meter-events.stripe.com"
    connect: str = "https://connect.stripe.com"

    @model_validator(mode="after")
    def _urls(self) -> Self:
        for name, url in self:
            if not url.startswith(("https://", "http://")):
                raise ValueError(f"{name}: {url!r} is not a URL; write it with https://")
        return self


class Aggregation(ConfigModel):
    """How records are summed into meter events."""

    window: Duration = Field(
        default=timedelta(seconds=10),
        description="Records of one customer and event name that ended in the same window are one meter event; "
        "0s sends each by itself.",
    )
    max_window: Duration = Field(
        default=timedelta(seconds=60),
        description="How much a meter event may cover while its turn has not come. Never across a UTC minute.",
    )

    @model_validator(mode="after")
    def _within_a_minute(self) -> Self:
        for name, value in (("window", self.window), ("max_window", self.max_window)):
            seconds = value.total_seconds()
            if seconds != int(seconds) or not 0 <= seconds <= 60:
                raise ValueError(
                    f"{name} must be whole seconds from 0s to 60s, because windows lie within a UTC minute"
                )
        if self.max_window < self.window:
            raise ValueError("max_window must not be smaller than window")
        return self

    @property
    def one_by_one(self) -> bool:
        """Whether each record is sent by itself."""
        return not self.window

    @property
    def length(self) -> int:
        """Length of the ledger's windows in seconds; records of their own are looked for second by second."""
        return max(1, int(self.window.total_seconds()))


class RetryOnFailure(ConfigModel):
    """How long to wait between attempts. It never gives up."""

    initial_interval: Duration = timedelta(seconds=1)
    multiplier: float = Field(default=2, ge=1, le=100)
    randomization_factor: float = Field(default=0.5, ge=0, le=1)
    max_interval: Duration = timedelta(minutes=5)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.initial_interval:
            raise ValueError("initial_interval must be more than 0s")
        if self.max_interval < self.initial_interval:
            raise ValueError("max_interval must not be smaller than initial_interval")
        return self

    @property
    def backoff(self) -> Backoff:
        """The same in the sender's terms."""
        return Backoff(
            initial_interval=self.initial_interval.total_seconds(),
            multiplier=self.multiplier,
            randomization_factor=self.randomization_factor,
            max_interval=self.max_interval.total_seconds(),
        )


class CustomersConfig(ConfigModel):
    """The customer directory."""

    refresh: Duration = Field(
        default=timedelta(minutes=10),
        description="How often changes of customers are looked for while nobody waits for one.",
    )

    @model_validator(mode="after")
    def _not_at_once(self) -> Self:
        if self.refresh < timedelta(seconds=1):
            raise ValueError("refresh must be at least 1s")
        return self


class ReconcileConfig(ConfigModel):
    """Comparing the ledger with what Stripe has counted, while the service runs."""

    interval: Duration = Field(
        default=timedelta(hours=24),
        description="How often the ledger is compared with Stripe's summaries; 0s: never.",
    )
    reads: int = Field(
        default=40,
        ge=1,
        le=10_000,
        description="How many summaries are read each time; those that were not compared for longest come first.",
    )


class SendingQueue(ConfigModel):
    """The durable queue."""

    storage: str = Field(description="The id of the storage extension that keeps the ledger.")


class StripeMeterConfig(ConfigModel):
    """Configuration of `exporters::stripe_meter`."""

    api_key: Annotated[Secret, AfterValidator(_usable_key)] = Field(
        description="A secret or restricted key, for example ${env:STRIPE_API_KEY}."
    )
    account: str | None = Field(default=None, description="The connected account for every call.", min_length=1)
    connect: ConnectConfig | None = Field(
        default=None, description="Connecting other companies' Stripe accounts with OAuth; see docs/connect.md."
    )
    webhook: WebhookConfig | None = Field(
        default=None, description="Hearing of changed customers and late reports at once; see docs/customers.md."
    )
    endpoints: Endpoints = Endpoints()
    api: Literal["v1", "v2_stream"] = Field(
        default="v1",
        description="How meter events are sent: one a call, with an answer about each (v1), or up to 100 a call, "
        "judged by Stripe later (v2_stream).",
    )
    aggregation: Aggregation = Aggregation()
    retry_on_failure: RetryOnFailure = RetryOnFailure()
    customers: CustomersConfig = CustomersConfig()
    reconcile: ReconcileConfig = ReconcileConfig()
    unsent_warning: Duration = Field(
        default=timedelta(minutes=30),
        description="How long usage may wait to be sent before the log warns; 0s: never. Stripe finalizes invoices "
        "an hour after a billing period, and bills nothing that comes later.",
    )
    sending_queue: SendingQueue
    timeout: Duration = Field(default=timedelta(seconds=20), description="How long one call to Stripe may take.")
    calls_per_second: float | None = Field(
        default=None,
        gt=0,
        description="Calls for meter events a second and account, at most; less after Stripe said 429. By default "
        "85 % of what Stripe documents for the key's mode and the account. More than is documented says that Stripe "
        "has raised the limit.",
    )

    @property
    def streams(self) -> bool:
        """Whether meter events go through the stream."""
        return self.api == "v2_stream"

    @property
    def mode(self) -> str:
        """`test` or `live`, by the key: the two never share a book."""
        return "test" if "_test_" in self.api_key.get_secret_value() else "live"
