"""Components for tests of the configuration: every kind of field that a real one has, and nothing that runs."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from otel_usageflow.component import Factory, Kind
from otel_usageflow.config.types import ConfigModel, Duration, Endpoint, HostPort, Secret
from otel_usageflow.errors import ConfigProblem


class Server(ConfigModel):
    endpoint: Endpoint = HostPort("127.0.0.1", 4317)
    max_mib: Annotated[int, Field(gt=0)] = 64


class Protocols(ConfigModel):
    grpc: Server | None = None
    http: Server | None = None

    @model_validator(mode="after")
    def _one(self) -> "Protocols":
        if not self.grpc and not self.http:
            raise ValueError("needs grpc, http or both")
        return self


class Wire(ConfigModel):
    protocols: Protocols


class Header(ConfigModel):
    header: str


class Query(ConfigModel):
    query: str


class KeyOptions(ConfigModel):
    header: str
    hash: Literal["none", "sha256", "hmac"] = "sha256"
    secret: Secret | None = None


class Key(ConfigModel):
    api_key: KeyOptions


Source = Header | Query | Key


class Attribute(ConfigModel):
    attribute: str


class Policy(ConfigModel):
    name: Annotated[str, Field(pattern="^[a-z0-9_.-]+$")]
    user: Source | list[Source]
    status: str | list[str] = "2xx"
    quantity: Annotated[Decimal, Field(ge=0)] | Attribute = Decimal(1)


class Rules(ConfigModel):
    policies: Annotated[tuple[Policy, ...], Field(min_length=1)]


class Queue(ConfigModel):
    storage: str


class Aggregation(ConfigModel):
    window: Duration = timedelta(seconds=10)


class Bill(ConfigModel):
    api_key: Secret
    account: str | None = None
    api: Literal["v1", "v2_stream"] = "v1"
    verbose: bool = False
    aggregation: Aggregation = Aggregation()
    sending_queue: Queue


class Disk(ConfigModel):
    directory: str = "."


def _check_rules(config: Rules) -> list[ConfigProblem]:
    names = [policy.name for policy in config.policies]
    return [
        ConfigProblem(f"policies::{index}::name", f"{name} is used twice")
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def _warn_rules(config: Rules) -> list[ConfigProblem]:
    return [ConfigProblem("policies::0", "never matches")] if config.policies[0].name == "never" else []


def _build(config: object, context: object) -> object:
    raise AssertionError("nothing is started here")


WIRE = Factory(Kind.RECEIVER, "wire", Wire, _build)
RULES = Factory(Kind.PROCESSOR, "rules", Rules, _build, check=_check_rules, warn=_warn_rules)
BILL = Factory(
    Kind.EXPORTER,
    "bill",
    Bill,
    _build,
    references=("sending_queue::storage",),
)
DISK = Factory(Kind.EXTENSION, "disk", Disk, _build, serves="storage")
LAMP = Factory(Kind.EXTENSION, "lamp", Disk, _build)


def registry_of(*factories: Factory) -> dict[Kind, dict[str, Factory]]:
    return {kind: {f.name: f for f in factories if f.kind is kind} for kind in Kind}


REGISTRY = registry_of(WIRE, RULES, BILL, DISK, LAMP)

GOOD = """\
receivers: {wire: {protocols: {grpc: }}}
processors:
  rules:
    policies:
      - {name: chat, user: {header: x-account-id}}
exporters:
  bill: {api_key: sk_live_abcdef, sending_queue: {storage: disk}}
extensions: {disk: }
service:
  extensions: [disk]
  pipelines:
    traces: {receivers: [wire], processors: [rules], exporters: [bill]}
"""
"""A configuration of all of them, without mistakes."""
