"""What must not leave the app: headers, bodies, queries, prompts, and whatever else may hold a key or a token."""

from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from opentelemetry.sdk.resources import Resource

from otel_usageflow.sdk.record import Scalar, Value

SECRET: Final = (
    "http.request.header.",
    "http.response.header.",
    "http.request.body.content",
    "http.response.body.content",
    "url.query",
    "rpc.request.metadata.",
    "rpc.response.metadata.",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.tool.call.",
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompts",
    "input.value",
    "output.value",
    "exception.",
)
"""How the keys of attributes begin that are stripped unless `keep` names them."""
URLS: Final = frozenset({"http.target", "http.url", "url.full"})
"""Attributes that end at the first `?`, and lose a user and password before the host."""
LONGEST: Final = 4096
"""Characters; a longer value is left out. Cutting it could make two users of one, or one of two."""
_RESOURCE: Final = ("service.", "telemetry.", "deployment.", "k8s.", "cloud.region", "host.name")
_MANY: Final = 1024


class Fate(Enum):
    """What becomes of an attribute."""

    KEPT = "kept"
    STRIPPED = "stripped"
    PATH = "without its query"


class Privacy:
    """Decides by the key; remembers what it decided."""

    def __init__(self, keep: Iterable[str] = (), strip: Iterable[str] = ()) -> None:
        kept, stripped = frozenset(keep), (*SECRET, *strip)

        def fate(key: str) -> Fate:
            if key in kept:
                return Fate.KEPT
            if key.startswith(stripped):
                return Fate.STRIPPED
            return Fate.PATH if key in URLS else Fate.KEPT

        self._fate = lru_cache(_MANY)(fate)

    def attributes(self, attributes: Mapping[str, Any]) -> tuple[dict[str, Value], int]:
        """What may leave, and about how many bytes it is."""
        left: dict[str, Value] = {}
        weight = 0
        for key, value in attributes.items():
            fate = self._fate(key)
            if fate is Fate.STRIPPED:
                continue
            plain = _plain(value)
            if plain is None:
                continue
            if fate is Fate.PATH:
                plain = without_query(plain) if isinstance(plain, str) else ""
            left[key] = plain
            weight += 100 + (len(plain) if isinstance(plain, str) else 64)
        return left, weight


def without_query(url: str) -> str:
    """A URL or target up to its query or fragment, without user and password."""
    url = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


@lru_cache(64)
def resource_attributes(resource: Resource) -> dict[str, Value]:
    """What a resource says of the service; a command line, for one, stays here."""
    pairs = ((key, _plain(value)) for key, value in resource.attributes.items() if key.startswith(_RESOURCE))
    return {key: value for key, value in pairs if value is not None}


def _plain(value: Any) -> Value | None:
    """A value that billing can use; None for what is too long, or neither a scalar nor a list of scalars."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else None
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        elements: tuple[Scalar, ...] = tuple(one for one in value if isinstance(one, str | bool | int | float))
        room = sum(len(one) if isinstance(one, str) else 8 for one in elements)
        return elements if len(elements) == len(value) <= LONGEST and room <= LONGEST else None
    return None
