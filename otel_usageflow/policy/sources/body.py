"""User from the request's JSON body, where the span has captured it."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from otel_usageflow.policy.json_value import parse_json, values_at
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import one_text, user_text

BODY_ATTRIBUTE: Final = "http.request.body.content"
"""OpenTelemetry's attribute for a captured body; a policy's `body_attribute` names another."""


def _json_path(value: str) -> str:
    path = value.strip().removeprefix("$").removeprefix(".")
    if not path or "" in path.split(".") or any(char in path for char in "[]*?()'\""):
        raise ValueError(f"{value!r} is no path into a JSON body; write names and list positions, as in user.ids.0")
    return path


class BodySource(Source):
    """`body: user.account_id`"""

    body: Annotated[str, AfterValidator(_json_path)] = Field(
        description="names and list positions in the JSON body, joined by dots", examples=["user.account_id"]
    )

    def reader(self, setting: Setting) -> Reader:
        """Read the value at the path; a body that is cut off, or no JSON, has none."""
        steps = self.body.split(".")
        key = setting.body_attribute

        def read(request: HttpRequest) -> str | None:
            text = one_text((request.span_value(key),))
            if not text:
                return None
            return user_text(values_at(parse_json(text), steps), setting.placeholders)

        return Reader(f"body {self.body}", read, frozenset({key}))
