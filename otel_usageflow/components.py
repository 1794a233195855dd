"""The one list of components that this build contains, and those that other packages add.

A package adds its own through the entry-point group `otel_usageflow.components`; each entry point is a
`Factory`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from otel_usageflow.component import Factory, Kind
from otel_usageflow.errors import ConfigErrors, ConfigProblem

GROUP = "otel_usageflow.components"


def builtin() -> tuple[Factory, ...]:
    """The components of this package."""
    # Imported here, not above: they bring gRPC, Stripe and more, which `--help` should not wait for.
    from otel_usageflow.exporters import debug, stripe_meter
    from otel_usageflow.extensions import admin, bearertokenauth, health_check, ingesttokenauth, sqlite_storage
    from otel_usageflow.processors import usage_policy
    from otel_usageflow.receivers import otlp

    return (
        otlp.FACTORY,
        usage_policy.FACTORY,
        debug.FACTORY,
        stripe_meter.FACTORY,
        admin.FACTORY,
        bearertokenauth.FACTORY,
        health_check.FACTORY,
        ingesttokenauth.FACTORY,
        sqlite_storage.FACTORY,
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """A component and the package it comes from."""

    factory: Factory
    module: str
    """Distribution and version, for example `otel-usageflow 0.1.0`."""


def registry(third_party: Iterable[EntryPoint] | None = None) -> dict[Kind, dict[str, Factory]]:
    """All components: kind -> type -> factory.

    Args:
        third_party: entry points of other packages; those that are installed by default.

    Raises:
        ConfigErrors: a package's component cannot be loaded, or takes a name that is in use.
    """
    return {
        kind: {listed.factory.name: listed.factory for listed in found}
        for kind, found in listing(third_party).items()
    }


def listing(third_party: Iterable[EntryPoint] | None = None) -> dict[Kind, list[Listed]]:
    """All components with their origin, by kind; raises as `registry` does."""
    from otel_usageflow import __version__

    found: dict[Kind, list[Listed]] = {kind: [] for kind in Kind}
    problems: list[ConfigProblem] = []
    for factory in builtin():
        found[factory.kind].append(Listed(factory, f"otel-usageflow {__version__}"))
    for point in entry_points(group=GROUP) if third_party is None else third_party:
        problems.extend(_add(point, found))
    if problems:
        raise ConfigErrors(problems)
    return found


def _add(point: EntryPoint, found: dict[Kind, list[Listed]]) -> Iterator[ConfigProblem]:
    origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    who = f"the component {point.name} of {origin}"
    try:
        factory = point.load()
    except Exception as error:  # noqa: BLE001  (another package's code may fail in any way)
        reason = f"{type(error).__name__}: {error}"
        yield ConfigProblem("", f"{who} cannot be loaded ({reason}); repair or uninstall that package")
        return
    if not isinstance(factory, Factory):
        yield ConfigProblem("", f"{who} is no Factory; repair or uninstall that package")
        return
    taken = next((other for other in found[factory.kind] if other.factory.name == factory.name), None)
    if taken is not None:
        yield ConfigProblem(
            "", f"{who} takes the name {factory.kind.value}::{factory.name}, which {taken.module} has already"
        )
        return
    found[factory.kind].append(Listed(factory, origin))
