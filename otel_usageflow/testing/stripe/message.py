"""One call and its answer, free of any HTTP library."""

import json
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

JsonObject = dict[str, Any]
Pairs = list[tuple[str, str]]


class Renderable(Protocol):
    """A thing that is turned into JSON only when it is sent, so that keeping it is cheap."""

    def render(self) -> JsonObject:
        """The object as Stripe would show it."""


Body = JsonObject | Renderable


class Answer(NamedTuple):
    """What goes back to the client."""

    status: int
    body: Body
    headers: Mapping[str, str] = {}
    malformed: bool = False
    """Send only the first half of the body."""
    stall: bool = False
    """Send half of the body, and nothing more."""
    text: str | None = None
    """Sent instead of the body, for what is not JSON."""

    def encode(self) -> bytes:
        """The body as JSON."""
        if self.text is not None:
            return self.text.encode()
        body = self.body if isinstance(self.body, dict) else self.body.render()
        text = json.dumps(body, separators=(",", ":")).encode()
        return text[: len(text) // 2] if self.malformed else text


class Dropped(Exception):
    """The connection breaks without an answer."""


def always_connected() -> bool:
    """For calls that have no connection."""
    return True


@dataclass(slots=True)
class Request:
    """One call, before anything was understood of it."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """Names are looked up without regard to case."""
    body: bytes = b""
    id: str = ""
    connected: Callable[[], bool] = always_connected
    """Whether the client still waits for the answer."""
    pairs: Pairs = field(default_factory=list)
    json: JsonObject | None = None
    """The parameters, where they came as JSON."""

    def decode(self) -> None:
        """Read the form (or the query, when there is no body), brackets plain or percent-encoded; below `/v2` JSON.

        Raises:
            ValueError: it is not UTF-8, or no JSON object.
        """
        if self.method == "POST" and self.path.startswith("/v2/"):
            document = json.loads(self.body or b"{}")
            if not isinstance(document, dict):
                raise ValueError("no JSON object")
            self.json, self.pairs = document, list(_flat("", document))
            return
        encoded = self.body.decode() if self.method == "POST" else self.query
        self.pairs = urllib.parse.parse_qsl(encoded, keep_blank_values=True, errors="strict")


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """JSON under the names that a form would have: `events[0][payload][value]`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield name, value if isinstance(value, str) else json.dumps(value)
        return
    for key, below in items:
        yield from _flat(f"{name}[{key}]" if name else str(key), below)


class Call(NamedTuple):
    """What is remembered of a call."""

    method: str
    path: str
    form: Mapping[str, str]
    """Names as sent, brackets plain: `payload[value]`."""
    headers: Mapping[str, str]
    status: int
    """0 when the connection was broken or the answer is still held back."""
    request_id: str
    at: float
    """By the double's clock."""
