"""What spans say about a client's certificate: Envoy's header `x-forwarded-client-cert`, and names in certificates.

Sources: Envoy, "x-forwarded-client-cert" in the HTTP connection manager's headers; RFC 4514 for names.
"""

import re
from typing import Final

Element = dict[str, list[str]]
"""One proxy's word about one certificate: key in lower case -> values."""

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_ESCAPE: Final = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)
_SLASHES: Final = re.compile(r"/(?=[A-Za-z][A-Za-z0-9.]*=)")
_COMMON_NAME: Final = ("cn", "2.5.4.3", "oid.2.5.4.3")


def forwarded(line: str) -> list[Element] | None:
    """The elements of one line of `x-forwarded-client-cert`, the first proxy's first; None if it is cut off."""
    elements: list[Element] = []
    for text in _split(line, ",") or ():
        element: Element = {}
        for pair in _split(text, ";") or ():
            key, _, value = pair.partition("=")
            value = value.strip()
            if value.startswith('"'):
                if len(value) < 2 or not value.endswith('"'):
                    return None
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            element.setdefault(key.strip().lower(), []).append(value)
        elements.append(element)
    return elements or None


def common_names(subject: str) -> list[str]:
    """All common names in a distinguished name: `CN=acme,O=Acme Inc`, or OpenSSL's `/O=Acme Inc/CN=acme`."""
    if subject.startswith("/"):
        parts: list[str] = _SLASHES.split(subject)
    else:
        parts = [one for part in _split(subject, ",;") or () for one in _split(part, "+") or ()]
    pairs = [part.partition("=") for part in parts]
    return [_unescaped(value.strip()) for key, _, value in pairs if key.strip().lower() in _COMMON_NAME]


def fingerprint(text: str) -> str | None:
    """A SHA-256 digest in lower case and without colons; None if it is none."""
    digest = text.replace(":", "").lower()
    return digest if _HEX.fullmatch(digest) else None


def _split(text: str, separators: str) -> list[str] | None:
    """Split where no quotes are open and no backslash stands before; None if quotes stay open."""
    parts, start, quoted, index = [], 0, False, 0
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 1
        elif char == '"':
            quoted = not quoted
        elif char in separators and not quoted:
            parts.append(text[start:index])
            start = index + 1
        index += 1
    return None if quoted else [*parts, text[start:]]


def _unescaped(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    plain = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1][1:] else match[1], value.encode())
    return plain.decode("utf-8", "surrogateescape")
