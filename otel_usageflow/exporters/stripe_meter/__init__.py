"""Exporter `stripe_meter`: usage becomes Stripe meter events, exactly once."""

from otel_usageflow.component import Factory, Kind
from otel_usageflow.config.section import STAND_IN
from otel_usageflow.errors import ConfigProblem
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.connect_config import problems_of, remarks_on
from otel_usageflow.exporters.stripe_meter.exporter import StripeMeterExporter


def _check(config: StripeMeterConfig) -> list[ConfigProblem]:
    if config.connect is None:
        return []
    # A command that can do without secrets may be read without the key that tells the mode.
    known = config.api_key.get_secret_value() != STAND_IN
    return problems_of(config.connect, config.mode if known else "")


def _warn(config: StripeMeterConfig) -> list[ConfigProblem]:
    return [] if config.connect is None else remarks_on(config.connect, config.api_key.get_secret_value())


FACTORY = Factory(
    kind=Kind.EXPORTER,
    name="stripe_meter",
    config=StripeMeterConfig,
    build=StripeMeterExporter,
    references=("sending_queue::storage", "connect::admin", "webhook::admin"),
    check=_check,
    warn=_warn,
)
