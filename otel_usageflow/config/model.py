"""The whole configuration: its sections, and what `load` makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator

from otel_usageflow.component import Factory, Kind
from otel_usageflow.config.metrics import MetricsConfig
from otel_usageflow.config.place import Place
from otel_usageflow.config.redact import redacted
from otel_usageflow.config.types import ConfigModel
from otel_usageflow.errors import ConfigProblem

Registry = Mapping[Kind, Mapping[str, Factory]]
"""The components that exist: kind -> type -> factory."""


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class LogsConfig(ConfigModel):
    """`service::telemetry::logs`: the service's own logs, on standard error."""

    level: Annotated[Literal["debug", "info", "warn", "error"], BeforeValidator(_lower)] = "info"
    """The least severe line that is written."""
    encoding: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = "console"
    """`console` for people, `json` for machines."""


class TelemetryConfig(ConfigModel):
    """`service::telemetry`: what the service says about itself."""

    logs: LogsConfig = LogsConfig()
    metrics: MetricsConfig = MetricsConfig()


class PipelineConfig(ConfigModel):
    """One pipeline: ids of what spans pass through."""

    receivers: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()
    exporters: tuple[str, ...] = ()


class ReloadConfig(ConfigModel):
    """`service::reload`: how changed policies are taken up while the service runs."""

    watch: bool = True
    """Whether a change of a configuration file is taken up by itself; SIGHUP does it in any case."""


class ServiceConfig(ConfigModel):
    """`service`: which of the configured components run, and how they are connected."""

    extensions: tuple[str, ...] = ()
    pipelines: dict[str, PipelineConfig] = {}
    reload: ReloadConfig = ReloadConfig()
    telemetry: TelemetryConfig = TelemetryConfig()


@dataclass(frozen=True, slots=True)
class Configured:
    """One component that stands in the configuration, whether or not a pipeline uses it."""

    id: str
    """`type[/name]`."""
    factory: Factory
    config: BaseModel


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without mistakes."""

    service: ServiceConfig
    components: Mapping[Kind, Mapping[str, Configured]]
    """Kind -> id -> component."""
    written: Mapping[str, Any] = field(default_factory=dict)
    """The sources merged and expanded, as written: without defaults, with secrets."""
    secrets: tuple[Place, ...] = ()
    """Where secrets stand in `written`."""
    warnings: tuple[ConfigProblem, ...] = ()
    """Remarks that do not stop the service."""

    @property
    def pipelines(self) -> Mapping[str, PipelineConfig]:
        """The pipelines by id."""
        return MappingProxyType(self.service.pipelines)

    @property
    def receivers(self) -> Mapping[str, Configured]:
        """The receivers by id."""
        return self.components[Kind.RECEIVER]

    @property
    def processors(self) -> Mapping[str, Configured]:
        """The processors by id."""
        return self.components[Kind.PROCESSOR]

    @property
    def exporters(self) -> Mapping[str, Configured]:
        """The exporters by id."""
        return self.components[Kind.EXPORTER]

    @property
    def extensions(self) -> Mapping[str, Configured]:
        """The extensions by id."""
        return self.components[Kind.EXTENSION]

    def used(self, kind: Kind) -> tuple[str, ...]:
        """The ids of the components of a kind that run, in the order of the configuration."""
        if kind is Kind.EXTENSION:
            return self.service.extensions
        pipelines = self.pipelines.values()
        return tuple(dict.fromkeys(id_ for pipeline in pipelines for id_ in getattr(pipeline, kind.value)))

    def redacted(self) -> str:
        """The configuration as YAML that can be read again, with `[REDACTED]` for every secret."""
        return redacted(self.written, self.secrets)
