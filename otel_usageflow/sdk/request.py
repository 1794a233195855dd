"""A request as a `user` function sees it: the same for every framework."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, quote

_SAFE = "/!$&'()*+,;=:@~"
"""What stands in a path as it is (RFC 3986 section 3.3)."""


class Headers(Mapping[str, str]):
    """Request headers by name in any case; several of one name are joined by a comma, as in HTTP."""

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._values[name.lower()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def each(self, name: str) -> list[str]:
        """Every value of a header."""
        return self._values.get(name.lower(), [])


class Request(ABC):
    """What the server handed to the app. Nothing in it is copied, and the body is not in it.

    Attributes:
        raw: the ASGI scope or the WSGI environ, with whatever the app's middleware has put there.
    """

    def __init__(self, raw: MutableMapping[str, Any]) -> None:
        self.raw = raw

    @property
    @abstractmethod
    def method(self) -> str:
        """GET, POST and so on."""

    @property
    @abstractmethod
    def path(self) -> str:
        """Percent-encoded, with the prefix that the app is mounted under, without the query."""

    @property
    @abstractmethod
    def query_string(self) -> str:
        """What stands after the `?`."""

    @property
    @abstractmethod
    def scheme(self) -> str:
        """`http` or `https`, `ws` or `wss`."""

    @cached_property
    @abstractmethod
    def headers(self) -> Headers:
        """The request's headers."""

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """Each parameter's values."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query_string, keep_blank_values=True, separator="&"):
            found.setdefault(name, []).append(value)
        return found

    @cached_property
    def cookies(self) -> dict[str, list[str]]:
        """Each cookie's values (RFC 6265 section 5.4)."""
        found: dict[str, list[str]] = {}
        for header in self.headers.each("cookie"):
            for pair in header.split(";"):
                name, separator, value = pair.partition("=")
                if separator:
                    found.setdefault(name.strip(), []).append(value.strip().strip('"'))
        return found


class AsgiRequest(Request):
    """A request by its ASGI scope. Method and path are read before the app, which may write others there."""

    def __init__(self, raw: MutableMapping[str, Any]) -> None:
        super().__init__(raw)
        self._method = raw.get("method", "GET")  # a WebSocket's handshake is a GET
        self._paths = raw.get("raw_path"), raw["path"]

    @property
    def method(self) -> str:
        return str(self._method)

    @property
    def path(self) -> str:
        raw, decoded = self._paths
        return raw.decode("latin-1").partition("?")[0] if raw else quote(decoded, safe=_SAFE)

    @property
    def query_string(self) -> str:
        return bytes(self.raw.get("query_string", b"")).decode("latin-1")

    @property
    def scheme(self) -> str:
        return str(self.raw.get("scheme", "http"))

    @property
    def state(self) -> MutableMapping[str, Any]:
        """What Starlette and FastAPI show as `request.state`."""
        state: MutableMapping[str, Any] = self.raw.setdefault("state", {})
        return state

    @cached_property
    def headers(self) -> Headers:
        values: dict[str, list[str]] = {}
        for name, value in self.raw["headers"]:
            values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        return Headers(values)


class WsgiRequest(Request):
    """A request by its WSGI environ. Method and path are read before the app, which may write others there."""

    def __init__(self, raw: MutableMapping[str, Any]) -> None:
        super().__init__(raw)
        self._method = raw.get("REQUEST_METHOD", "")
        self._paths = raw.get("RAW_URI") or raw.get("REQUEST_URI"), raw.get("SCRIPT_NAME"), raw.get("PATH_INFO")

    @property
    def method(self) -> str:
        return str(self._method)

    @property
    def path(self) -> str:
        raw, mounted, decoded = self._paths
        if raw and raw.startswith("/"):
            return str(raw).partition("?")[0]
        whole = f"{mounted or ''}{decoded or ''}"
        return quote(whole.encode("latin-1"), safe=_SAFE)  # one character a byte: PEP 3333

    @property
    def query_string(self) -> str:
        return str(self.raw.get("QUERY_STRING", ""))

    @property
    def scheme(self) -> str:
        return str(self.raw.get("wsgi.url_scheme", "http"))

    @cached_property
    def headers(self) -> Headers:
        values = {
            key[5:].replace("_", "-").lower(): [str(value)]
            for key, value in self.raw.items()
            if key.startswith("HTTP_")
        }
        for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if self.raw.get(key):
                values[key.replace("_", "-").lower()] = [str(self.raw[key])]
        return Headers(values)
