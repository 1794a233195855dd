"""What is different between the configuration that runs and the one that the files hold now. Pure.

Processors can change while the service runs, the rest cannot. Settings are compared as they are meant: `10s` and
`10000ms` are the same, and so are a default and nothing written. Nothing in here tells a value, only paths and names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from otel_usageflow.component import Kind
from otel_usageflow.config.model import Config
from otel_usageflow.config.place import Place, value_at, written
from otel_usageflow.errors import ConfigProblem

_KEPT = (Kind.RECEIVER, Kind.EXPORTER, Kind.EXTENSION)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a reload does, and what it cannot do."""

    processors: tuple[str, ...] = ()
    """Ids of those that run and have other settings."""
    added: tuple[str, ...] = ()
    """Names of policies; with the processor's id before them where several processors run."""
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    """Paths of what else changed in these processors."""
    needs_restart: tuple[str, ...] = ()
    """Paths of what changed and is not taken up."""
    obstacles: tuple[ConfigProblem, ...] = ()
    """Why nothing can be taken up."""


def difference(running: Config, new: Config) -> Difference:
    """Compare.

    Args:
        running: what is in force, as `taking_over` made it or as it was at the start.
        new: what the files hold.
    """
    used = running.used(Kind.PROCESSOR)
    processors = tuple(id_ for id_ in used if _changed(running, new, Kind.PROCESSOR, id_))
    named = [(id_, f"{id_}: " if len(used) > 1 else "") for id_ in processors]
    policies = [(prefix, _policies(running, id_), _policies(new, id_)) for id_, prefix in named]
    return Difference(
        processors,
        tuple(prefix + name for prefix, old, now in policies for name in now if name not in old),
        tuple(prefix + name for prefix, old, now in policies for name in old if name not in now),
        tuple(prefix + n for prefix, old, now in policies for n in now if n in old and old[n] != now[n]),
        tuple(path for id_ in processors for path in _settings(running, new, id_)),
        tuple(dict.fromkeys(_needs_restart(running, new))),
        tuple(_obstacles(running, new)),
    )


def taking_over(running: Config, new: Config) -> Config:
    """What is in force once the processors of the new configuration are: the rest is as it was."""
    taken = {id_: new.processors[id_] for id_ in running.used(Kind.PROCESSOR) if id_ in new.processors}
    section = {id_: value_at(new.written, (Kind.PROCESSOR.value, id_)) for id_ in taken}
    before = running.written.get(Kind.PROCESSOR.value) or {}
    return replace(
        running,
        components={**running.components, Kind.PROCESSOR: {**running.processors, **taken}},
        written={**running.written, Kind.PROCESSOR.value: {**before, **section}},
        secrets=(
            *(place for place in running.secrets if not _within(place, taken)),
            *(place for place in new.secrets if _within(place, taken)),
        ),
    )


def _within(place: Place, processors: Mapping[str, object]) -> bool:
    return place[0] == Kind.PROCESSOR.value and place[1] in processors


def _changed(running: Config, new: Config, kind: Kind, id_: str) -> bool:
    """Whether a component that runs has other settings; without any it goes on with those of before."""
    there, now = running.components[kind][id_], new.components[kind].get(id_)
    return now is not None and now.config != there.config


def _policies(config: Config, processor: str) -> Mapping[str, Any]:
    """Name -> policy, of a processor that has policies."""
    listed = getattr(config.processors[processor].config, "policies", ())
    return {str(policy.name): policy for policy in listed if hasattr(policy, "name")}


def _settings(running: Config, new: Config, id_: str) -> Iterator[str]:
    """What changed in a processor besides single policies."""
    place: Place = (Kind.PROCESSOR.value, id_)
    old, now = list(_policies(running, id_)), list(_policies(new, id_))
    if [name for name in old if name in now] != [name for name in now if name in old]:
        yield f"{written(place)}::policies (their order)"
    for path in _paths(running.written, new.written, place):
        if not (now and path[2:3] == ("policies",)):
            yield written(path)


def _needs_restart(running: Config, new: Config) -> Iterator[str]:
    for kind in _KEPT:
        for id_ in running.used(kind):
            if _changed(running, new, kind, id_):
                yield from _written_paths(running, new, (kind.value, id_))
    for key in sorted(type(new.service).model_fields):
        if getattr(running.service, key) != getattr(new.service, key):
            yield from _written_paths(running, new, ("service", key))


def _written_paths(running: Config, new: Config, place: Place) -> Iterator[str]:
    """The paths of what changed below a place; the place itself if what is written does not show it."""
    found = [written(path) for path in _paths(running.written, new.written, place)]
    yield from found or [written(place)]


def _paths(old: Any, new: Any, place: Place) -> Iterator[Place]:
    """Where two trees differ at and below a place: keys of maps, and lists as a whole."""
    before, now = value_at(old, place), value_at(new, place)
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _paths(old, new, (*place, key))
    elif before != now:
        yield place


def _obstacles(running: Config, new: Config) -> Iterator[ConfigProblem]:
    """Where policies belong to a processor that a pipeline has only after a restart, none are taken."""
    for id_, pipeline in new.pipelines.items():
        wanted = pipeline.processors[0]
        there = running.pipelines.get(id_)
        place = f"service::pipelines::{id_}::processors"
        if wanted not in running.used(Kind.PROCESSOR):
            yield ConfigProblem(place, f"{wanted} does not run; a restart takes up this configuration")
        elif there is not None and there.processors[0] != wanted:
            runs = there.processors[0]
            yield ConfigProblem(place, f"{runs} runs here and not {wanted}; a restart takes up this configuration")
