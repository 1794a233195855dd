"""How a caller shows a token: in a header, after the name of a scheme (RFC 6750 for `Bearer`)."""


def after_scheme(value: str, scheme: str) -> bytes:
    """The token in a header's value, or nothing if the scheme is another one; with no scheme all of the value."""
    if not scheme:
        return value.strip().encode(errors="replace")
    name, _, token = value.strip().partition(" ")
    return token.strip().encode(errors="replace") if name.lower() == scheme.lower() else b""
