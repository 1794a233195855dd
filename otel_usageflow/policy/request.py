"""One request as policies see it: a SERVER span, its resource and its scope."""

from collections.abc import Sequence
from dataclasses import dataclass

from otel_usageflow.model.attributes import Found, Value, read
from otel_usageflow.model.spans import Span
from otel_usageflow.policy import http


@dataclass(frozen=True, slots=True)
class Origin:
    """What the spans of one instrumentation scope in one resource have in common."""

    resource: Found
    """The resource's attributes that some policy asks for."""
    service: str
    scope: str
    attributes: Sequence[bytes] = ()
    """All attributes of the resource, undecoded."""


class HttpRequest:
    """One request. What only some policies ask for is worked out when they do, once."""

    __slots__ = ("_host", "found", "method", "origin", "path", "span")

    def __init__(self, span: Span, found: Found, origin: Origin, method: str | None, path: list[str] | None) -> None:
        self.span = span
        self.found = found
        """The span's attributes that some policy asks for."""
        self.origin = origin
        self.method = method
        """In capitals, if the span has one."""
        self.path = path
        """Decoded segments; None if the span has no path."""
        self._host: str | None = None

    @property
    def host(self) -> str:
        """In lower case, without a port; empty if the span does not say."""
        if self._host is None:
            self._host = http.host(self.found) or ""
        return self._host

    def span_value(self, key: str) -> Value:
        """A span attribute, or None."""
        return read(self.found, key)

    def resource_value(self, key: str) -> Value:
        """A resource attribute, or None."""
        return read(self.origin.resource, key)

    def value(self, key: str) -> Value:
        """A span attribute, or, where the span has none of this key, the resource's."""
        return self.span_value(key) if key in self.found else self.resource_value(key)


class GrpcCall(HttpRequest):
    """One gRPC call. It has no HTTP method, path, route or status, even if its span has attributes of these names."""

    __slots__ = ()

    def __init__(self, span: Span, found: Found, origin: Origin) -> None:
        super().__init__(span, found, origin, None, None)
