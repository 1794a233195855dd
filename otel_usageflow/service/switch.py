"""One change of the processors while the service runs: all of it is prepared, then it is in force at one moment.

Nothing here waits between the first and the last `apply`, so no request sees a part of the change. Until then,
whatever fails leaves everything as it was.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_usageflow.component import Change, Expectant, Kind, Reloadable
from otel_usageflow.config.model import Config
from otel_usageflow.errors import ConfigErrors, ConfigProblem, HalfApplied
from otel_usageflow.model.usage import Terms

Components = Mapping[tuple[Kind, str], Any]


@dataclass(slots=True)
class Switch:
    """Changes that were prepared, and that wait to be applied or discarded together."""

    terms: dict[str, tuple[Terms, ...]]
    """Processor -> what it will bill."""
    _changes: list[Change] = field(default_factory=list)

    async def prepare(self, what: Awaitable[Change]) -> Change:
        """Wait for one more change."""
        change = await what
        self._changes.append(change)
        return change

    def apply(self) -> None:
        """Put all of them in force.

        Raises:
            HalfApplied: a component has broken its promise that this cannot fail.
        """
        changes, self._changes = self._changes, []
        for change in changes:
            try:
                change.apply()
            except Exception as error:
                raise HalfApplied(
                    f"new policies are in force in part only: {type(error).__name__}: {error}"
                ) from error

    def discard(self) -> None:
        """Let go of those that were not put in force."""
        for change in self._changes:
            change.discard()
        self._changes = []


def billed_through(exporter: str, config: Config, terms: Mapping[str, tuple[Terms, ...]]) -> tuple[Terms, ...]:
    """What the policies bill whose pipelines lead to an exporter.

    Args:
        exporter: its id.
        config: has the pipelines.
        terms: processor -> what it bills.
    """
    processors = (p.processors[0] for p in config.pipelines.values() if exporter in p.exporters)
    return tuple(one for id_ in dict.fromkeys(processors) for one in terms[id_])


async def prepare(config: Config, changed: Sequence[str], components: Components, switch: Switch) -> None:
    """Prepare the processors, and the exporters for what they will bill.

    Args:
        config: what will be in force.
        changed: ids of the processors whose settings are other ones than before.
        components: what runs.
        switch: has the terms of now; gets those to come, and the changes.

    Raises:
        ConfigErrors, StartError, Unavailable: nothing has changed, but what was prepared has to be discarded.
    """
    before = dict(switch.terms)
    _check(changed, components)
    for id_ in changed:
        processor = components[Kind.PROCESSOR, id_]
        change = await switch.prepare(processor.prepare(config.processors[id_].config))
        switch.terms[id_] = change.terms
    problems = []
    for id_ in config.used(Kind.EXPORTER):
        terms = billed_through(id_, config, switch.terms)
        if set(terms) == set(billed_through(id_, config, before)):
            continue
        exporter = components[Kind.EXPORTER, id_]
        if isinstance(exporter, Expectant):
            await switch.prepare(exporter.expect(terms))
        else:
            problems.append(
                ConfigProblem(
                    f"{Kind.EXPORTER.value}::{id_}",
                    "cannot learn while it runs what is billed; a restart takes this up",
                )
            )
    if problems:
        raise ConfigErrors(problems)


def _check(changed: Sequence[str], components: Components) -> None:
    problems = [
        ConfigProblem(f"{Kind.PROCESSOR.value}::{id_}", "cannot change while it runs; a restart takes this up")
        for id_ in changed
        if not isinstance(components[Kind.PROCESSOR, id_], Reloadable)
    ]
    if problems:
        raise ConfigErrors(problems)


async def record(storages: Mapping[str, Any], settings: object, before: object, why: str) -> None:
    """Write into the audit log of every storage what bills from now on; or, if one cannot, in none that it does.

    Args:
        storages: those that run, by id.
        settings: what will be in force.
        before: what is.
        why: what led to the change.

    Raises:
        ConfigErrors: one of them cannot do that while usage comes.
        Unavailable: one of them was not written.
    """
    problems = [
        ConfigProblem(
            f"{Kind.EXTENSION.value}::{id_}", "cannot write down a change while it runs; a restart takes this up"
        )
        for id_, storage in storages.items()
        if not hasattr(storage, "record_configuration")
    ]
    if problems:
        raise ConfigErrors(problems)
    told: list[Callable[[object, str], Awaitable[None]]] = []
    for storage in storages.values():
        try:
            await storage.record_configuration(settings, why)
        except BaseException:
            for take_back in told:
                await take_back(before, "taken back: another ledger could not be written")
            raise
        told.append(storage.record_configuration)
