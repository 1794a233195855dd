"""Reading one section of the configuration, such as one component's, into its model."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from otel_usageflow.config.expand import Expanded
from otel_usageflow.config.findings import Finding, findings
from otel_usageflow.config.nearest import nearest
from otel_usageflow.config.place import Place, names_along, replaced, value_at, written
from otel_usageflow.config.shape import Shape, shape_of
from otel_usageflow.config.wording import sentence, without_secrets
from otel_usageflow.errors import ConfigProblem

Model = TypeVar("Model", bound=BaseModel)

STAND_IN = "not-set-" + "0" * 56
"""Takes the place of a secret that is not needed; long enough for any signing algorithm."""


@dataclass(slots=True)
class Section(Generic[Model]):
    """What became of one section: its model, or problems, or neither when only secrets are missing."""

    data: Any
    """As written, expanded, each value in the form (number or text) that its field wants."""
    model: Model | None = None
    problems: list[ConfigProblem] = field(default_factory=list)
    secrets: list[Place] = field(default_factory=list)
    """Where secrets stand, from the top of the configuration."""


def read_section(
    model: type[Model], data: Any, place: Place, expanded: Expanded, *, need_secrets: bool = True
) -> Section[Model]:
    """Read a section's data into its model.

    Args:
        model: what the section must look like.
        data: the section, after expansion; None counts as empty.
        place: where the section stands, for messages.
        expanded: what the expansion knows about values at and below `place`.
        need_secrets: with False, secrets whose environment variables are not set are not missed.
    """
    data = {} if data is None else data
    shape = shape_of(model)
    instance, found = _attempt(model, data)
    texts = {
        finding.place: expanded.texts[(*place, *finding.place)]
        for finding in found
        if (*place, *finding.place) in expanded.texts
    }
    if texts:
        data = _with_values(data, texts)
        instance, found = _attempt(model, data)
    absent: list[Finding] = []
    if found and not need_secrets:
        absent = [finding for finding in found if _is_absent_secret(finding, shape, place, expanded)]
        filled = _with_values(data, {finding.place: STAND_IN for finding in absent})
        instance, found = _attempt(model, filled)
        stood_in = {finding.place for finding in absent}
        found = [finding for finding in found if finding.place not in stood_in]
    secrets = list(shape.secrets(data))
    problems = [
        ConfigProblem(
            written((*place, *finding.place)),
            _redacted(_sentence(finding, shape, data, place, expanded), secrets, data, shape),
        )
        for finding in _without_consequences(found, shape)
    ]
    return Section(data, instance, problems, [(*place, *secret) for secret in secrets])


def _redacted(message: str, secrets: list[Place], data: Any, shape: Shape) -> str:
    """The message without the section's secrets, whichever of them a validator has put into it."""
    for secret in secrets:
        message = without_secrets(message, value_at(data, secret), secret, shape)
    return message


def _attempt(model: type[Model], data: Any) -> tuple[Model | None, list[Finding]]:
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, findings(error.errors(include_url=False), data)


def _without_consequences(found: list[Finding], shape: Shape) -> list[Finding]:
    """Leave out keys that are missing because they are misspelt: the unknown key is the mistake."""
    meant = {
        (*finding.place[:-1], nearest(str(finding.place[-1]), shape.keys(finding.place[:-1], finding.branch)))
        for finding in found
        if finding.type == "extra_forbidden"
    }
    return [finding for finding in found if finding.type != "missing" or finding.place not in meant]


def _with_values(data: Any, values: dict[Place, str]) -> Any:
    for place, value in values.items():
        data = replaced(data, place, value)
    return data


def _is_absent_secret(finding: Finding, shape: Shape, place: Place, expanded: Expanded) -> bool:
    whole = (*place, *finding.place)
    return (whole in expanded.unset or whole in expanded.empty) and shape.is_secret(finding.place)


def _sentence(finding: Finding, shape: Shape, data: Any, place: Place, expanded: Expanded) -> str:
    text = sentence(finding, shape)
    whole = (*place, *finding.place)
    named = "".join(f" ({name})" for name in names_along(data, finding.place))
    if variables := expanded.unset.get(whole):
        return f"{text}{named}, but the environment variable {' and '.join(variables)} is not set"
    if variables := expanded.empty.get(whole):
        return f"is required{named}, but the environment variable {' and '.join(variables)} is empty"
    return f"{text}{named}"
