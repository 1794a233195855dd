"""User from a cookie."""

from pydantic import Field

from otel_usageflow.policy.cookies import cookie_values
from otel_usageflow.policy.fields import Name
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.header import header_keys, header_texts
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import user_text


class CookieSource(Source):
    """`cookie: account`"""

    cookie: Name = Field(description="the name of a cookie", examples=["account"])

    def reader(self, setting: Setting) -> Reader:
        """Read the cookie from the header `cookie`; one that comes several times with distinct values is no user."""
        name, keys = self.cookie, header_keys("cookie", metadata=setting.metadata)

        def read(request: HttpRequest) -> str | None:
            lines = header_texts(request, keys, setting.placeholders)
            return user_text(cookie_values(lines, name), setting.placeholders) if lines else None

        return Reader(f"cookie {name}", read, frozenset(keys))
