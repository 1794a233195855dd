"""Exporter `stripe_meter`: usage becomes Stripe meter events, exactly once."""

from otel_usageflow.component import Factory, Kind
from otel_usageflow.errors import ConfigProblem
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.connect_config import problems_of
from otel_usageflow.exporters.stripe_meter.exporter import StripeMeterExporter


def _check(config: StripeMeterConfig) -> list[ConfigProblem]:
    return [] if config.connect is None else problems_of(config.connect, config.mode)


FACTORY = Factory(
    kind=Kind.EXPORTER,
    name="stripe_meter",
    config=StripeMeterConfig,
    build=StripeMeterExporter,
    references=("sending_queue::storage", "connect::admin", "webhook::admin"),
    check=_check,
)
