"""Components that write down what happens to them, to test the service that runs them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from otel_usageflow.component import Context, Factory, Kind
from otel_usageflow.config.model import Config, Configured, PipelineConfig, ServiceConfig
from otel_usageflow.config.types import ConfigModel
from otel_usageflow.errors import InvalidData
from otel_usageflow.model.usage import Reason, Terms, UsageBatch, UsageRecord

TERMS = Terms("chat", "api_request", "account_id")


class Nothing(ConfigModel):
    pass


@dataclass
class Story:
    """What happened, in order."""

    events: list[str] = field(default_factory=list)
    contexts: dict[str, Context] = field(default_factory=dict)
    problems: list[Mapping[str, str]] = field(default_factory=list)
    settings: list[Mapping[str, object]] = field(default_factory=list)


class Part:
    """A component of any kind; `on_enter` and `on_leave` may fail or wait."""

    def __init__(self, story: Story, context: Context) -> None:
        self.story = story
        self.context = context
        story.contexts[context.id] = context

    async def on_enter(self) -> None:
        return None

    async def on_leave(self) -> None:
        return None

    async def note_configuration(self, settings: Mapping[str, object]) -> None:
        self.story.settings.append(settings)

    async def __aenter__(self) -> Self:
        await self.on_enter()
        self.story.events.append(f"+{self.context.id}")
        self.story.problems.append(dict(self.context.health.problems()))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.story.events.append(f"-{self.context.id}")
        self.story.problems.append(dict(self.context.health.problems()))
        await self.on_leave()


class PartProcessor(Part):
    terms = (TERMS,)

    def process(self, payload: bytes, received_ns: int) -> UsageBatch:
        if payload == b"bad":
            raise InvalidData("unreadable")
        if payload == b"bug":
            raise ZeroDivisionError
        record = UsageRecord(b"t" * 16, b"s" * 8, 1, 1, TERMS, "u", "header x", 1)
        lost = record._replace(user=None, reason=Reason.NO_USER)
        return UsageBatch(
            [record, record, lost],
            spans=5,
            requests=4,
            unmatched=1,
            unbilled=Counter({("chat", "status"): 2}),
            malformed=payload.count(b"m"),
        )


class PartExporter(Part):
    async def export(self, batch: UsageBatch) -> None:
        self.story.events.append(f"{self.context.id} took {batch.spans}")


DEFAULT: dict[Kind, type[Part]] = {
    Kind.RECEIVER: Part,
    Kind.PROCESSOR: PartProcessor,
    Kind.EXPORTER: PartExporter,
    Kind.EXTENSION: Part,
}


def config(story: Story, pipelines: Mapping[str, tuple[list[str], str, list[str]]], **parts: type[Part]) -> Config:
    """A configuration of recording components.

    Args:
        story: where they write.
        pipelines: id -> receivers, processor, exporters.
        parts: id -> class, for those that do something of their own.
    """

    def configured(kind: Kind, id_: str) -> Configured:
        part = parts.get(id_, DEFAULT[kind])
        build: Callable[[Any, Context], Any] = lambda _config, context: part(story, context)  # noqa: E731
        serves = "storage" if id_ == "disk" else ""
        return Configured(id_, Factory(kind, id_, Nothing, build, serves=serves), Nothing())

    ids: dict[Kind, list[str]] = {
        Kind.RECEIVER: [id_ for receivers, _, _ in pipelines.values() for id_ in receivers],
        Kind.PROCESSOR: [processor for _, processor, _ in pipelines.values()],
        Kind.EXPORTER: [id_ for _, _, exporters in pipelines.values() for id_ in exporters],
        Kind.EXTENSION: ["lamp", "disk"],
    }
    return Config(
        ServiceConfig(
            extensions=("lamp", "disk"),
            pipelines={
                id_: PipelineConfig(receivers=tuple(r), processors=(p,), exporters=tuple(e))
                for id_, (r, p, e) in pipelines.items()
            },
        ),
        {kind: {id_: configured(kind, id_) for id_ in dict.fromkeys(names)} for kind, names in ids.items()},
    )


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (a condition, not an event)
            await asyncio.sleep(0.001)
