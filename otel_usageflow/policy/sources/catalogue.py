"""The user sources that exist. A new one is a module beside this one, and a line here."""

from typing import Annotated, Any, Final, get_args

from pydantic import ValidationError, WrapValidator
from pydantic_core import InitErrorDetails

from otel_usageflow.policy.sources.api_key import ApiKeySource
from otel_usageflow.policy.sources.body import BodySource
from otel_usageflow.policy.sources.header import HeaderSource
from otel_usageflow.policy.sources.jwt import JwtSource
from otel_usageflow.policy.sources.metadata import MetadataSource
from otel_usageflow.policy.sources.path import PathSource
from otel_usageflow.policy.sources.query import QuerySource
from otel_usageflow.policy.sources.source import Source

_Sources = HeaderSource | ApiKeySource | JwtSource | QuerySource | PathSource | BodySource | MetadataSource

SOURCES: Final[dict[str, type[Source]]] = {next(iter(source.model_fields)): source for source in get_args(_Sources)}
"""The key under `user` -> its source; a source's first field is its key."""


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
    if not value:
        raise ValueError(f"names no source; write one of {', '.join(sorted(SOURCES))}")
    raise ValidationError.from_exception_data(
        "user",
        [InitErrorDetails(type="extra_forbidden", loc=(str(key),), input=value[key]) for key in value],
    )


UserSource = Annotated[_Sources, WrapValidator(lambda value, _handler: read_source(value))]
"""One entry of `user`."""
