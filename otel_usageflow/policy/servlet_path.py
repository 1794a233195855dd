"""The path as a Java servlet container reads it, before it looks for a servlet.

`/chat;v=1`, `//chat` and `/x/../chat` are all answered by the servlet of `/chat`, and the span has the path as it was
sent: compared as it stands, a request could choose not to be billed. Source: Jakarta Servlet 6.0, section 3.5.2, and
what Tomcat answered.
"""

import re
from typing import Final
from urllib.parse import unquote

_CONTAINERS: Final = tuple(
    f"io.opentelemetry.{name}"
    for name in ("tomcat-", "jetty-", "servlet-", "undertow-", "liberty", "grizzly-", "spring-webmvc-")
)
_ODD: Final = re.compile(r";|//|/\.|%2e", re.IGNORECASE)


def in_container(scope: str) -> bool:
    """Whether spans of this instrumentation scope are of a servlet container, or of a framework within one."""
    return scope.startswith("io.opentelemetry.") and scope.startswith(_CONTAINERS)


def canonical(path: str) -> list[str] | None:
    """The decoded segments that the container looks for; None if the path has nothing that it would change.

    Parameters of a segment are cut off before it is decoded, so that an encoded semicolon begins none; then dots are
    followed, encoded ones too, and empty segments left out.
    """
    if not _ODD.search(path):
        return None
    segments: list[str] = []
    for raw in path.split("/"):
        segment = unquote(raw.partition(";")[0], errors="surrogateescape")
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    return segments
