"""collector_config/minimal.yaml for tests: the whole service on free ports, with its ledger and Stripe elsewhere."""

from pathlib import Path

from otel_usageflow.components import registry
from otel_usageflow.config.load import load
from otel_usageflow.config.model import Config
from otel_usageflow.testing.stripe import StripeDouble

FOLDER = Path(__file__).parents[2] / "collector_config"


def minimal(directory: Path, stripe: StripeDouble, *overlays: str, **sets: str) -> Config:
    """The configuration, read as the command reads it.

    Args:
        directory: for the ledger.
        stripe: what stands in for Stripe.
        overlays: further files of collector_config.
        sets: what `--set` would change, with `__` for `::`.
    """
    here = {
        "receivers::otlp::protocols": "{grpc: {endpoint: 127.0.0.1:0}, http: {endpoint: 127.0.0.1:0}}",
        "exporters::stripe_meter::endpoints": f"{{api: {stripe.url}, meter_events: {stripe.url}}}",
        "extensions::sqlite_storage::directory": str(directory),
        "extensions::health_check::endpoint": "127.0.0.1:0",
    } | {key.replace("__", "::"): value for key, value in sets.items()}
    return load(
        [str(FOLDER / name) for name in ("minimal.yaml", *overlays)],
        [f"{key}={value}" for key, value in here.items()],
        registry(),
        environment={"STRIPE_API_KEY": stripe.api_key},
    )
