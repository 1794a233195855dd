"""User from HTTP's basic authentication (RFC 7617). The password is read by nobody."""

import base64
import binascii
from typing import Literal

from pydantic import Field

from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.sources.header import header_keys, header_values, without_scheme
from otel_usageflow.policy.sources.source import Reader, Setting, Source
from otel_usageflow.policy.text import one_text, user_text


class BasicAuthSource(Source):
    """`basic_auth: user`"""

    basic_auth: Literal["user"] = Field(description="what is taken from the credentials; the password never is")

    def reader(self, setting: Setting) -> Reader:
        """Read the part before the first colon of the credentials in the header `authorization`."""
        keys = header_keys("authorization", metadata=setting.metadata)

        def read(request: HttpRequest) -> str | None:
            text = one_text(header_values(request, keys))
            credentials = without_scheme(text, "basic") if text else None
            user = _user(credentials) if credentials else None
            return None if user is None else user_text((user,), setting.placeholders)

        return Reader("basic_auth user", read, frozenset(keys))


def _user(credentials: str) -> str | None:
    try:
        decoded = base64.b64decode(credentials.encode(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    user, colon, _password = decoded.partition(":")
    return user if colon else None
