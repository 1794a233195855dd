"""`service::telemetry::metrics`: where the service's own metrics can be read, in the Collector's form."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from otel_usageflow.config.types import ConfigModel, HostPort

_INSTEAD = "write pull: {exporter: {prometheus: {host: 127.0.0.1, port: 8888}}}"


class PrometheusConfig(ConfigModel):
    """`prometheus`: a port that answers `GET /metrics`."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on; whoever reaches it can read the names of policies and all counts."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8888
    """0 takes a free one."""

    @property
    def endpoint(self) -> HostPort:
        """Both together."""
        return HostPort(self.host, self.port)


class PullExporterConfig(ConfigModel):
    """`exporter`: the format in which a reader is asked."""

    prometheus: PrometheusConfig


class PullConfig(ConfigModel):
    """`pull`: a reader that waits to be asked."""

    exporter: PullExporterConfig


class ReaderConfig(ConfigModel):
    """One entry of `readers`."""

    pull: PullConfig

    @model_validator(mode="before")
    @classmethod
    def _no_push(cls, data: Any) -> Any:
        if isinstance(data, dict) and "periodic" in data:
            raise ValueError(f"periodic readers are not supported, metrics are read here and not sent; {_INSTEAD}")
        return data


class MetricsConfig(ConfigModel):
    """`service::telemetry::metrics`: off unless there is a reader."""

    readers: tuple[ReaderConfig, ...] = ()
