"""What is wrong with a configuration as a whole: every problem, in the order of the file.

The sections are read one by one, then the references between them are checked. A component that could not
be read counts as configured, so that one mistake is reported once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_usageflow.component import Factory, Kind
from otel_usageflow.config.expand import Expanded
from otel_usageflow.config.ids import parse_id
from otel_usageflow.config.model import Config, Configured, PipelineConfig, Registry, ServiceConfig
from otel_usageflow.config.nearest import nearest, unknown
from otel_usageflow.config.place import Place, replaced, written
from otel_usageflow.config.section import read_section
from otel_usageflow.errors import ConfigErrors, ConfigProblem

SECTIONS = (*(kind.value for kind in Kind), "service")


@dataclass(slots=True)
class _Reading:
    expanded: Expanded
    registry: Registry
    need_secrets: bool
    tree: Any
    components: dict[Kind, dict[str, Configured]] = field(default_factory=dict)
    factories: dict[Kind, dict[str, Factory]] = field(default_factory=dict)
    """Of every component with a known type, also of those whose settings are wrong."""
    ids: dict[Kind, set[str]] = field(default_factory=dict)
    unreadable: set[Kind] = field(default_factory=set)
    problems: list[ConfigProblem] = field(default_factory=list)
    warnings: list[ConfigProblem] = field(default_factory=list)
    secrets: list[Place] = field(default_factory=list)

    def problem(self, place: Place, message: str) -> None:
        self.problems.append(ConfigProblem(written(place), message))


def check(expanded: Expanded, registry: Registry, *, need_secrets: bool = True) -> Config:
    """Read an expanded configuration.

    Raises:
        ConfigErrors: everything that is wrong with it.
    """
    reading = _Reading(expanded, registry, need_secrets, expanded.tree)
    reading.problems.extend(expanded.problems)
    if not isinstance(reading.tree, dict):
        raise ConfigErrors([ConfigProblem("", f"must be a mapping with the sections {', '.join(SECTIONS)}")])
    for key in reading.tree:
        if key not in SECTIONS:
            reading.problem((key,), unknown("section", key, SECTIONS))
    for kind in Kind:
        _read_components(reading, kind)
    service = _read_service(reading)
    if service is not None:
        _check_references(reading, service)
    in_failed = {problem.path for problem in expanded.problems}
    problems = [p for p in dict.fromkeys(reading.problems) if p in expanded.problems or p.path not in in_failed]
    if problems:
        raise ConfigErrors(problems)
    assert service is not None
    return Config(
        service, reading.components, reading.tree, tuple(reading.secrets), tuple(_warnings(reading, service))
    )


def _read_components(reading: _Reading, kind: Kind) -> None:
    reading.components[kind] = {}
    reading.ids[kind] = set()
    reading.factories[kind] = {}
    section = reading.tree.get(kind.value)
    if section is None:
        return
    if not isinstance(section, dict):
        reading.problem((kind.value,), "must be a mapping of ids (type or type/name) to settings")
        reading.unreadable.add(kind)
        return
    for id_, data in section.items():
        reading.ids[kind].add(id_)
        if factory := _factory(reading, kind, id_):
            reading.factories[kind][id_] = factory
            _read_component(reading, factory, id_, data)


def _factory(reading: _Reading, kind: Kind, id_: str) -> Factory | None:
    place = (kind.value, id_)
    try:
        type_ = parse_id(id_).type
    except ValueError as error:
        reading.problem(place, str(error))
        return None
    known = reading.registry[kind]
    if type_ in known:
        return known[type_]
    elsewhere = [other.value for other in Kind if type_ in reading.registry[other]]
    hint = f"; {type_} belongs under {elsewhere[0]}" if elsewhere else ""
    reading.problem(place, unknown(f"{kind.value.removesuffix('s')} type {type_}", type_, known) + hint)
    return None


def _read_component(reading: _Reading, factory: Factory, id_: str, data: Any) -> None:
    place = (factory.kind.value, id_)
    section = read_section(factory.config, data, place, reading.expanded, need_secrets=reading.need_secrets)
    reading.problems.extend(section.problems)
    reading.secrets.extend(section.secrets)
    if data is not None:
        reading.tree = replaced(reading.tree, place, section.data)
    if section.model is None:
        return
    reading.problems.extend(_below(place, factory.check(section.model)))
    reading.components[factory.kind][id_] = Configured(id_, factory, section.model)


def _below(place: Place, problems: list[ConfigProblem]) -> Iterator[ConfigProblem]:
    top = written(place)
    for problem in problems:
        yield ConfigProblem(f"{top}::{problem.path}" if problem.path else top, problem.message)


def _read_service(reading: _Reading) -> ServiceConfig | None:
    data = reading.tree.get("service")
    section = read_section(ServiceConfig, data, ("service",), reading.expanded)
    reading.problems.extend(section.problems)
    if section.model is None:
        return None
    if data is not None:
        reading.tree = replaced(reading.tree, ("service",), section.data)
    if not section.model.pipelines:
        reading.problem(
            ("service", "pipelines"),
            "needs at least one pipeline; write traces: {receivers: [...], processors: [...], exporters: [...]}",
        )
    return section.model


def _check_references(reading: _Reading, service: ServiceConfig) -> None:
    _check_ids(reading, ("service", "extensions"), Kind.EXTENSION, service.extensions)
    for id_, pipeline in service.pipelines.items():
        _check_pipeline(reading, id_, pipeline)
    used = _used(service)
    for kind, factories in reading.factories.items():
        for id_, factory in factories.items():
            for path in factory.references:
                place: Place = (kind.value, id_, *path.split("::"))
                extension = _written_at(reading.tree, place)
                if isinstance(extension, str):
                    _check_extension(reading, service, place, extension, id_ in used[kind])


def _used(service: ServiceConfig) -> Mapping[Kind, set[str]]:
    pipelines = service.pipelines.values()
    used = {kind: {id_ for p in pipelines for id_ in getattr(p, kind.value, ())} for kind in Kind}
    return {**used, Kind.EXTENSION: set(service.extensions)}


def _check_pipeline(reading: _Reading, id_: str, pipeline: PipelineConfig) -> None:
    place: Place = ("service", "pipelines", id_)
    try:
        signal = parse_id(id_).type
    except ValueError as error:
        reading.problem(place, str(error))
        signal = "traces"
    if signal in ("metrics", "logs", "profiles"):
        reading.problem(place, f"carries {signal}, but usage is made from traces only; remove this pipeline")
        return
    if signal != "traces":
        reading.problem(place, "is not a pipeline id; name it traces or traces/...")
    for kind in (Kind.RECEIVER, Kind.PROCESSOR, Kind.EXPORTER):
        ids = getattr(pipeline, kind.value)
        if not ids:
            reading.problem((*place, kind.value), f"needs at least one {kind.value.removesuffix('s')}")
        elif kind is Kind.PROCESSOR and len(set(ids)) > 1:
            reading.problem((*place, kind.value), "needs exactly one processor; put the others into other pipelines")
        _check_ids(reading, (*place, kind.value), kind, ids)


def _check_ids(reading: _Reading, place: Place, kind: Kind, ids: tuple[str, ...]) -> None:
    for index, id_ in enumerate(ids):
        if kind in reading.unreadable:
            continue
        if id_ not in reading.ids[kind]:
            reading.problem((*place, index), _not_configured(reading, kind, id_))
        elif id_ in ids[:index]:
            reading.problem((*place, index), f"{id_} is listed twice; list it once")


def _not_configured(reading: _Reading, kind: Kind, id_: str) -> str:
    configured = sorted(reading.ids[kind])
    guess = nearest(id_, configured)
    meant = f"; did you mean {guess}?" if guess else f"; add it under {kind.value}"
    listed = f" (configured: {', '.join(configured)})" if configured else ""
    return f"{id_} is not configured under {kind.value}{meant}{listed}"


def _written_at(tree: Any, place: Place) -> Any:
    """What stands at a place, or None."""
    for key in place:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _check_extension(reading: _Reading, service: ServiceConfig, place: Place, id_: str, used: bool) -> None:
    if id_ not in reading.ids[Kind.EXTENSION]:
        reading.problem(place, _not_configured(reading, Kind.EXTENSION, id_))
    elif (named := reading.components[Kind.EXTENSION].get(id_)) and named.factory.serves != place[-1]:
        fitting = [name for name, f in reading.registry[Kind.EXTENSION].items() if f.serves == place[-1]]
        reading.problem(place, f"{id_} is no {place[-1]}; name an extension of type {' or '.join(fitting)}")
    elif used and id_ not in service.extensions:
        reading.problem(place, f"{id_} is not started; add it to service::extensions")


def _warnings(reading: _Reading, service: ServiceConfig) -> Iterator[ConfigProblem]:
    not_missed = () if reading.need_secrets else reading.secrets
    for place, names in reading.expanded.unset.items():
        if place in not_missed:
            continue
        listed = " and ".join(names)
        yield ConfigProblem(written(place), f"the environment variable {listed} is not set; it counts as empty")
    used = _used(service)
    for kind, components in reading.components.items():
        for id_, configured in components.items():
            place = (kind.value, id_)
            if id_ not in used[kind]:
                yield ConfigProblem(written(place), "is configured but not used, so it is not started")
            else:
                yield from _below(place, configured.factory.warn(configured.config))
