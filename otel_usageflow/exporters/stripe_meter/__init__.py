"""Exporter `stripe_meter`: usage becomes Stripe meter events, exactly once."""

from otel_usageflow.component import Factory, Kind
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.exporter import StripeMeterExporter

FACTORY = Factory(
    kind=Kind.EXPORTER,
    name="stripe_meter",
    config=StripeMeterConfig,
    build=StripeMeterExporter,
    references=("sending_queue::storage",),
)
