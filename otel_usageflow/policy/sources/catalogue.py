"""The user sources that exist. A new one is a module beside this one, and a line here, or in `plain`."""

from typing import Annotated, Any, Final, get_args

from pydantic import ValidationError, WrapValidator
from pydantic_core import InitErrorDetails

from otel_usageflow.policy.sources.api_key import ApiKeySource
from otel_usageflow.policy.sources.jwt import JwtSource
from otel_usageflow.policy.sources.plain import PlainSource
from otel_usageflow.policy.sources.source import Source
from otel_usageflow.policy.sources.template import TemplateSource

_Sources = PlainSource | ApiKeySource | JwtSource | TemplateSource

SOURCES: Final[dict[str, type[Source]]] = {source.key(): source for source in get_args(_Sources)}
"""The key under `user` -> its source."""


def read_source(value: Any) -> Source:
    """Read one entry of `user`: a mapping with the key of one source.

    Raises:
        ValueError: it has none, several, or one that is wrong below.
    """
    if isinstance(value, Source):
        return value
    if not isinstance(value, dict):
        raise ValueError("a user source is a mapping, as in {header: x-account-id}")
    named = [key for key in value if key in SOURCES]
    if len(named) > 1:
        raise ValueError(
            f"{' and '.join(named)} are {len(named)} sources; to try them in order, write a list of mappings"
        )
    if named:
        return SOURCES[named[0]].model_validate(value)
    if not value.keys() - Source.model_fields.keys():
        raise ValueError(f"names no source; write one of {', '.join(sorted(SOURCES))}")
    raise ValidationError.from_exception_data(
        "user",
        [InitErrorDetails(type="extra_forbidden", loc=(str(key),), input=value[key]) for key in value],
    )


UserSource = Annotated[_Sources, WrapValidator(lambda value, _handler: read_source(value))]
"""One entry of `user`."""
