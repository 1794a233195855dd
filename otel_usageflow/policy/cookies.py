"""Cookies in the request header `cookie`, as instrumentations captured it (RFC 6265 sections 4.2.1 and 5.4)."""

from collections.abc import Iterable

from otel_usageflow.model.attributes import Value
from otel_usageflow.policy.text import scalar_text


def cookie_values(captured: Iterable[Value], name: str) -> list[Value]:
    """All values that the cookie of this name has, as sent, without quotes around them.

    Names are compared with case. A browser sends a cookie of one name several times when it holds one for several
    paths or domains; whoever asks sees them all. HTTP/2 may split the header into several; each is read by itself.
    A captured value that is no text is in the answer as None, because the cookie may have been in it.

    Args:
        captured: the values of the header; a list counts as its elements.
        name: the cookie's name.
    """
    found: list[Value] = []
    for value in captured:
        for element in value if isinstance(value, list) else (value,):
            text = scalar_text(element)
            if text is None:
                found.append(None)
                continue
            for pair in text.split(";"):
                before, equals, after = pair.partition("=")
                if equals and before.strip(" \t") == name:
                    found.append(_unquoted(after.strip(" \t")))
    return found


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
