"""What a part of the service is: the protocols that receivers, processors, exporters and extensions implement.

A component is an async context manager with one working method. Entering it starts it; leaving it drains it.
A component class is built from its configuration and a `Context`; it opens nothing before it is entered.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from otel_usageflow.errors import ConfigProblem
from otel_usageflow.model.caller import Caller
from otel_usageflow.model.clock import SteadyClock
from otel_usageflow.model.usage import Terms, UsageBatch


class Kind(StrEnum):
    """The sections of the configuration that hold components."""

    RECEIVER = "receivers"
    PROCESSOR = "processors"
    EXPORTER = "exporters"
    EXTENSION = "extensions"


@dataclass(frozen=True, slots=True)
class Consumed:
    """The answer to a request that was taken, and whose usage is durable.

    `rejected_spans` is OTLP's partial success: spans that can never be billed because they are malformed.
    """

    rejected_spans: int = 0
    message: str = ""


class Consumer(Protocol):
    """What a receiver calls with each request."""

    async def __call__(self, payload: bytes, caller: Caller | None = None) -> Consumed:
        """Take one serialized `ExportTraceServiceRequest`; return once its usage is committed.

        `caller` is what an authenticator said, if it said anything; then its account is the spans'.

        Raises:
            ConsumeError: nothing of it was taken. `Unavailable` asks the client to send it again.
        """


class Health(Protocol):
    """Who can take spans, and who cannot. Readiness is true when nobody has a problem."""

    def report(self, source: str, problem: str | None) -> None:
        """Say that `source` cannot take spans because of `problem`, or, with None, that it can again."""

    def problems(self) -> Mapping[str, str]:
        """Source -> problem, for all who have one now. Empty means ready."""


class Receiver(AbstractAsyncContextManager["Receiver"], Protocol):
    """Takes spans in. Its working method is the `Consumer` that it was built with."""


class Processor(AbstractAsyncContextManager["Processor"], Protocol):
    """Turns spans into usage."""

    terms: tuple[Terms, ...]
    """What its policies bill, for exporters to check before the first span comes."""

    def process(self, payload: bytes, received_ns: int, caller: Caller | None = None) -> UsageBatch:
        """Decide what is billed in one serialized `ExportTraceServiceRequest`. Pure: no I/O, may run in a thread.

        With a `caller` all of it is billed under its account. One that is given no caller need not take any.

        Raises:
            InvalidData: the payload is no such message.
            Unavailable: it cannot be decided yet; the client is asked to send it again.
        """


class Exporter(AbstractAsyncContextManager["Exporter"], Protocol):
    """Takes over the responsibility for usage."""

    async def export(self, batch: UsageBatch) -> None:
        """Return once the usage is safe for good, whatever happens to this process.

        Raises:
            Unavailable: nothing of it was taken.
        """


class Extension(AbstractAsyncContextManager["Extension"], Protocol):
    """Serves other components or the operator; sees no spans."""


class Authenticator(Extension, Protocol):
    """An extension that receivers ask who is calling."""

    def authenticate(self, headers: Mapping[str, str]) -> Caller | None:
        """Check the request's headers (names in lower case); say who is calling if that decides the account.

        Raises:
            Unauthenticated: no valid credentials.
            PermissionDenied: credentials that do not allow this.
        """


@runtime_checkable
class Watched(Protocol):
    """What a component of any kind may be besides: one that can fail while it runs, as when its listener dies."""

    async def watch(self) -> None:
        """Wait until the component has failed, and raise why; the service then stops with exit status 2.

        It is called once the component was entered and cancelled before it is left. Returning means that nothing
        can fail any more.
        """


def _nothing() -> None:
    """What a change does that has nothing to do."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a component has prepared for new settings, while it still works by the old ones.

    A reload prepares the changes of all components; then it applies all of them at one moment, or, if one could not
    be prepared, discards all. Exactly one of the two functions is called, once. Neither waits, and neither may
    fail.
    """

    apply: Callable[[], None] = _nothing
    """Put the new settings in force."""
    discard: Callable[[], None] = _nothing
    """Let go of what was prepared."""
    terms: tuple[Terms, ...] = ()
    """For processors: what its policies will bill."""


Judge = Callable[..., UsageBatch]
"""As `Processor.process`."""


@runtime_checkable
class Reloadable(Protocol):
    """What a processor may be besides: one that takes new settings while it runs. Others need a restart for that."""

    def judge(self) -> Judge:
        """What decides by the settings of now, and goes on to do so after a change."""

    async def prepare(self, config: Any) -> Change:
        """Prepare other settings, of the type that the component was built from. Nothing is in force before `apply`.

        Raises:
            StartError, ConfigErrors: they cannot be used; the message says why and what to do.
            Unavailable: not now; it is tried again by itself.
        """


@runtime_checkable
class Expectant(Protocol):
    """What an exporter may be besides: one that learns of other policies while it runs.

    Under any other, processors can change only what does not change what is billed (`Context.terms`).
    """

    async def expect(self, terms: tuple[Terms, ...]) -> Change:
        """Prepare for what the policies of its pipelines will bill. Usage under old terms still comes for a while.

        Raises:
            StartError: it can never be billed; the message says why and what to do.
            Unavailable: not now; it is tried again by itself.
        """


_METRIC_NAME = re.compile(r"otel_usageflow_[a-z0-9_]*[a-z0-9]")
_LABEL_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number that a component knows about itself: one sample of one metric.

    Samples of one name have the same kind, the same help and the same names of labels, whoever they come from.

    Raises:
        ValueError: a name that breaks Prometheus' conventions.
    """

    name: str
    """`otel_usageflow_...`, in base units (seconds, bytes); that of a counter ends in `_total`."""
    kind: Literal["counter", "gauge"]
    """A counter only grows while the process lives, and starts at 0; a gauge goes up and down."""
    value: float
    help: str
    """One sentence, for people."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Only values of which there are few: ids, policies, reasons. Never users, customers or traces."""

    def __post_init__(self) -> None:
        if not _METRIC_NAME.fullmatch(self.name) or (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"{self.name} is no name for a {self.kind}; see Measurement.name")
        if wrong := [label for label in self.labels if not _LABEL_NAME.fullmatch(label)]:
            raise ValueError(f"{self.name}: {wrong[0]!r} is no name for a label")


@runtime_checkable
class Measured(Protocol):
    """What a component of any kind may be besides: one that has numbers to show on `/metrics`."""

    async def measure(self) -> Sequence[Measurement]:
        """The numbers of this moment; asked for whenever somebody reads the metrics, from entering to leaving.

        It should answer within milliseconds and is given up after seconds. An error, or no answer in time, costs
        this component's metrics only.
        """


@dataclass(frozen=True, slots=True)
class Context:
    """What a component gets besides its configuration."""

    id: str
    """`type[/name]`."""
    health: Health
    extensions: Mapping[str, Any]
    """The service's extensions by id, entered before any other component."""
    consume: Consumer | None = None
    """For receivers only."""
    terms: tuple[Terms, ...] = ()
    """For exporters only: what the policies of their pipelines bill."""
    clock: SteadyClock = field(default_factory=SteadyClock)
    """The service's time."""


@dataclass(frozen=True, slots=True)
class Factory:
    """One entry of the list of components.

    `check` looks for what the configuration model cannot know by itself, such as a policy that is shadowed by
    another. `warn` returns remarks that do not stop the service. Paths of both begin below the component, as in
    `policies::0::user`.
    """

    kind: Kind
    name: str
    """The type that stands in the configuration, for example `otlp`."""
    config: type[BaseModel]
    build: Callable[[Any, Context], Any]
    serves: str = ""
    """For extensions: the last key of the references that may name it, `storage` or `authenticator`."""
    references: tuple[str, ...] = ()
    """Where below the component ids of extensions stand, for example `sending_queue::storage`."""
    check: Callable[[Any], list[ConfigProblem]] = lambda _config: []
    warn: Callable[[Any], list[ConfigProblem]] = lambda _config: []
