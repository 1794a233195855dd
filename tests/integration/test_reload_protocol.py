"""A reload with components of any kind: all of them or none, at one moment, and those that cannot are named."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recording_components import TERMS, Part, PartExporter, PartProcessor, Story, config, until
from structlog.testing import capture_logs

from otel_usageflow.component import Change, Kind
from otel_usageflow.config.model import Config, Configured
from otel_usageflow.config.types import ConfigModel
from otel_usageflow.errors import ConfigErrors, HalfApplied, StartError, Unavailable
from otel_usageflow.model.usage import Terms, UsageBatch
from otel_usageflow.service.reloader import Reloader
from otel_usageflow.service.run import serve
from otel_usageflow.service.service import Service
from otel_usageflow.service.sources import Sources

TWO = {"traces": (["in"], "first", ["out"]), "traces/b": (["in"], "second", ["out"])}
OTHER_TERMS = Terms("other", "others", "account_id")


class Settings(ConfigModel):
    """Other settings than those of the start."""

    version: int = 2


class Disk(Part):
    """A storage that may refuse."""

    refuses = False

    async def record_configuration(self, settings: object, why: str) -> None:
        if self.refuses:
            raise Unavailable("full")
        self.story.events.append(f"recorded: {why}")


class Changing(PartProcessor):
    """A processor that can change; its version is in what it makes of a request."""

    version = 1
    new_terms = (TERMS,)

    def judge(self) -> Any:
        version = self.version
        return lambda payload, received_ns: UsageBatch(spans=version)

    async def prepare(self, settings: Settings) -> Change:
        self.story.events.append(f"{self.context.id} prepared")

        def apply() -> None:
            self.version, self.terms = settings.version, self.new_terms
            self.story.events.append(f"{self.context.id} applied")

        return Change(apply, lambda: self.story.events.append(f"{self.context.id} discarded"), self.new_terms)


class Refusing(Changing):
    async def prepare(self, settings: Settings) -> Change:
        raise StartError("no such keys")


class Learning(PartExporter):
    async def expect(self, terms: tuple[Terms, ...]) -> Change:
        self.story.events.append(f"{self.context.id} expects {sorted({one.policy for one in terms})}")
        return Change()


def other(of: Config, *processors: str) -> Config:
    """The configuration with other settings of these processors."""
    parts = {**of.processors}
    for id_ in processors:
        parts[id_] = Configured(id_, parts[id_].factory, Settings())
    return replace(of, components={**of.components, Kind.PROCESSOR: parts})


async def reloaded(story: Story, changed: list[str], **parts: type[Part]) -> list[str]:
    """Start, reload, stop; what happened between."""
    of = config(story, TWO, **{"disk": Disk, "first": Changing, "second": Changing, "out": Learning, **parts})
    service = Service(of)
    try:
        await service.start()
        story.events.clear()
        await service.reload(other(of, *changed), "a test")
    finally:
        events = list(story.events)
        await service.stop()
    return events


async def test_prepared_recorded_applied() -> None:
    """All are prepared, then it is written down, then all are applied."""
    assert await reloaded(Story(), ["first", "second"]) == [
        "first prepared",
        "second prepared",
        "recorded: a test",
        "first applied",
        "second applied",
    ]


async def test_only_what_changed() -> None:
    """A processor with the settings of before is left alone, and exporters that bill the same are not asked."""
    assert await reloaded(Story(), ["second"]) == ["second prepared", "recorded: a test", "second applied"]


async def test_exporters_learn_what_is_billed() -> None:
    """By all processors whose pipelines lead to them, changed or not."""

    class Other(Changing):
        new_terms = (OTHER_TERMS,)

    events = await reloaded(Story(), ["second"], second=Other)
    assert events[1] == "out expects ['chat', 'other']"


@pytest.mark.parametrize("second", [Refusing, PartProcessor])
async def test_all_or_none(second: type[Part]) -> None:
    """When one cannot change, none does, and what was prepared is let go of."""
    story = Story()
    with pytest.raises((StartError, ConfigErrors)) as refused:
        await reloaded(story, ["first", "second"], second=second)
    assert not [event for event in story.events if "applied" in event or "recorded" in event]
    assert story.events.count("first prepared") == story.events.count("first discarded")
    if second is PartProcessor:
        assert str(refused.value) == "processors::second: cannot change while it runs; a restart takes this up"


async def test_an_exporter_that_cannot_learn() -> None:
    """It is named when it would have to bill something else; what it is to bill is all that concerns it."""

    class Other(Changing):
        new_terms = (OTHER_TERMS,)

    story = Story()
    with pytest.raises(ConfigErrors, match="exporters::out: cannot learn while it runs what is billed; a restart"):
        await reloaded(story, ["second"], second=Other, out=PartExporter)
    assert "second discarded" in story.events
    assert "second applied" in await reloaded(Story(), ["second"], out=PartExporter)


async def test_a_storage_that_refuses() -> None:
    """What cannot be written down is not in force."""

    class Full(Disk):
        refuses = True

    story = Story()
    with pytest.raises(Unavailable, match="full"):
        await reloaded(story, ["first", "second"], disk=Full)
    assert "first discarded" in story.events
    assert "first applied" not in story.events


async def test_a_storage_that_cannot_record() -> None:
    """One that writes settings down at starts only is named, and nothing changes."""
    story = Story()
    with pytest.raises(ConfigErrors, match="extensions::disk: cannot write down a change while it runs; a restart"):
        await reloaded(story, ["first"], disk=Part)
    assert "first discarded" in story.events


async def test_a_promise_that_is_broken() -> None:
    """A component that fails to apply leaves half a change, which only a restart mends."""

    class Broken(Changing):
        async def prepare(self, settings: Settings) -> Change:
            def apply() -> None:
                raise IndexError

            return Change(apply)

    with pytest.raises(HalfApplied, match="in part only: IndexError"):
        await reloaded(Story(), ["first", "second"], second=Broken)


async def test_one_request_is_judged_by_the_policies_of_one_moment() -> None:
    """Also where it goes through two pipelines, and the change comes between them."""
    story, between, go_on = Story(), asyncio.Event(), asyncio.Event()

    class Slow(Learning):
        async def export(self, batch: UsageBatch) -> None:
            await super().export(batch)
            between.set()
            await go_on.wait()

    of = config(story, TWO, disk=Disk, first=Changing, second=Changing, out=Slow)
    service = Service(of)
    try:
        await service.start()
        consume = story.contexts["in"].consume
        assert consume is not None
        taking = asyncio.create_task(consume(b""))  # type: ignore[arg-type]
        await between.wait()
        await service.reload(other(of, "first", "second"), "a test")
        go_on.set()
        await taking
        await consume(b"")
    finally:
        await service.stop()
    assert [event for event in story.events if "took" in event] == ["out took 1"] * 2 + ["out took 2"] * 2


async def test_nothing_to_do() -> None:
    """The same settings are no change; what a configuration remarks is said once."""
    story = Story()
    of = config(story, TWO, disk=Disk, first=Changing, second=Changing, out=Learning)
    service = Service(of)
    try:
        await service.start()
        with capture_logs() as logs:
            await service.reload(of, "a test")
        await until(lambda: True)
    finally:
        await service.stop()
    assert logs == []
    assert not [event for event in story.events if "prepared" in event or "recorded" in event]


class Serving:
    """A service that reloads, in the background of a test."""

    def __init__(self, story: Story, file: Path, **parts: type[Part]) -> None:
        of = config(story, TWO, **{"disk": Disk, "first": Changing, "second": Changing, "out": Learning, **parts})
        self.service = Service(of)
        sources = Sources([str(file)], lambda: other(of, "first", "second"))
        self.reloader = Reloader(sources, self.service.reload, self.service.reloads, sources.state(), watch=False)
        self.stopping = asyncio.Event()
        self.task = asyncio.create_task(serve(self.service, self.stopping, reloader=self.reloader))


async def test_a_stop_does_not_wait_for_a_reload(tmp_path: Path) -> None:
    """What was being prepared is let go of, and the components are left as always."""
    waits = asyncio.Event()

    class Slow(Changing):
        async def prepare(self, settings: Settings) -> Change:
            waits.set()
            await asyncio.Event().wait()
            raise AssertionError

    story = Story()
    serving = Serving(story, tmp_path / "file", second=Slow)
    serving.reloader.ask()
    await waits.wait()
    serving.stopping.set()
    async with asyncio.timeout(5):
        await serving.task
    assert story.events[-7:] == ["first discarded", "-in", "-out", "-second", "-first", "-lamp", "-disk"]


async def test_half_a_change_stops_the_service(tmp_path: Path) -> None:
    """In order, and with an error, so that it is started anew."""

    class Broken(Changing):
        async def prepare(self, settings: Settings) -> Change:
            def apply() -> None:
                raise IndexError

            return Change(apply)

    story = Story()
    serving = Serving(story, tmp_path / "file", second=Broken)
    serving.reloader.ask()
    with pytest.raises(HalfApplied):
        await serving.task
    assert story.events[-6:] == ["-in", "-out", "-second", "-first", "-lamp", "-disk"]
