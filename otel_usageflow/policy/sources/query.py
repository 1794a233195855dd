"""User from a parameter of the query."""

from pydantic import Field

from otel_usageflow.policy.fields import Name
from otel_usageflow.policy.http import QUERY_KEYS, query_values
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import user_text


class QuerySource(Source):
    """`query: account`"""

    query: Name = Field(description="the name of a query parameter", examples=["account"])

    def reader(self, setting: Setting) -> Reader:
        """Read the parameter; when it is repeated with distinct values, there is no user."""
        name = self.query

        def read(request: HttpRequest) -> str | None:
            values = query_values(request.found, request.origin.scope, name)
            return user_text(values, setting.placeholders)

        return Reader(f"query {name}", read, QUERY_KEYS)
