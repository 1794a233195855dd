"""User from an attribute that the application or its SDK sets."""

from typing import Literal

from pydantic import Field

from otel_usageflow.policy.fields import Name
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import user_text


class MetadataSource(Source):
    """`metadata: enduser.id`, with `scope: span` or `scope: resource` if only one of them is meant"""

    metadata: Name = Field(description="an attribute of the span or its resource", examples=["enduser.id"])
    scope: Literal["span", "resource"] | None = Field(
        default=None, description="where to look; both, the span first, if left out"
    )

    def reader(self, setting: Setting) -> Reader:
        """Read the span's attribute, then, where that is no user, the resource's."""
        key, scope = self.metadata, self.scope

        def read(request: HttpRequest) -> str | None:
            user = None
            if scope != "resource":
                user = user_text((request.span_value(key),), setting.placeholders)
            if user is None and scope != "span":
                user = user_text((request.resource_value(key),), setting.placeholders)
            return user

        return Reader(
            f"metadata {key}",
            read,
            frozenset() if scope == "resource" else frozenset({key}),
            frozenset() if scope == "span" else frozenset({key}),
            lasting=True,
        )
