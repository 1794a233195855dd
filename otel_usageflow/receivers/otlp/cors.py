"""Cross-origin rules: which web pages may send spans, decided from headers alone."""

import re
from collections.abc import Mapping

from otel_usageflow.receivers.otlp.config import Cors

_ALWAYS = frozenset({"accept", "content-type", "origin", "x-requested-with"})


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks for permission before the request proper."""
    return method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers


class CorsPolicy:
    """The section `cors`, compiled."""

    def __init__(self, config: Cors) -> None:
        self._origins = [
            re.compile(".*".join(re.escape(part) for part in origin.lower().split("*")))
            for origin in config.allowed_origins
        ]
        self._headers = _ALWAYS | {name.strip().lower() for name in config.allowed_headers}
        self._exposed = ", ".join(config.exposed_headers)
        self._max_age = config.max_age

    def answer(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers to add to the answer of any request."""
        allowed = self._allowed(headers)
        if allowed and self._exposed:
            allowed["Access-Control-Expose-Headers"] = self._exposed
        return {"Vary": "Origin", **allowed}

    def preflight(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers of the answer to a preflight; without permission, none that grants anything."""
        asked = headers.get("Access-Control-Request-Headers", "")
        names = {name.strip().lower() for name in asked.split(",") if name.strip()}
        vary = {"Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
        allowed = self._allowed(headers)
        if (
            not allowed
            or headers.get("Access-Control-Request-Method") != "POST"
            or not ("*" in self._headers or names <= self._headers)
        ):
            return vary
        allowed["Access-Control-Allow-Methods"] = "POST"
        if names:
            allowed["Access-Control-Allow-Headers"] = ", ".join(sorted(names))
        if self._max_age:
            allowed["Access-Control-Max-Age"] = str(self._max_age)
        return vary | allowed

    def _allowed(self, headers: Mapping[str, str]) -> dict[str, str]:
        origin = headers.get("Origin", "")
        if not origin or not any(pattern.fullmatch(origin.lower()) for pattern in self._origins):
            return {}
        # The origin itself, not `*`: browsers send beacons with credentials, and those refuse a bare `*`.
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}
