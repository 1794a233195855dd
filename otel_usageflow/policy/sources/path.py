"""User from a parameter of the path."""

from pydantic import Field

from otel_usageflow.policy.fields import Name
from otel_usageflow.policy.paths import fits
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import user_text


class PathSource(Source):
    """`path: id`, where the endpoint has `:id`"""

    path: Name = Field(description="a parameter of the endpoint: `id` for `/users/:id`", examples=["id"])

    def reader(self, setting: Setting) -> Reader:
        """Read the parameter by the policy's own template; a route does not tell what its parameters were."""
        name = self.path
        endpoints = [endpoint for endpoint in setting.endpoints if name in endpoint.parameters()]

        def read(request: HttpRequest) -> str | None:
            path = request.path
            if path is None:
                return None
            values = [
                endpoint.parameter(name, path) for endpoint in endpoints if fits(endpoint, request.method, path)
            ]
            return user_text(values, setting.placeholders)

        return Reader(f"path {name}", read)
