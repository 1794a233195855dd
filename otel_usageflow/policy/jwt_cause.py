"""Why a token names no user."""

from enum import StrEnum


class Cause(StrEnum):
    """What was wrong with a token; each is counted."""

    TOO_LONG = "too_long"
    """Longer than any server takes."""
    MALFORMED = "malformed"
    """Not three parts of base64 with JSON in them, or with a header or times that can be read in two ways."""
    ENCRYPTED = "encrypted"
    """A JWE, or a token within a token: what is in it cannot be read here."""
    EXTENSION = "extension"
    """It asks for something that must be understood and is not (`crit`, `b64`)."""
    ALGORITHM = "algorithm"
    """`none`, or one that the keys do not go with."""
    ISSUER = "issuer"
    AUDIENCE = "audience"
    UNKNOWN_KEY = "unknown_key"
    """Signed by a key that is not known."""
    WITHDRAWN_KEY = "withdrawn_key"
    """Signed by a key that was no longer trusted when the request came."""
    SIGNATURE = "signature"
    """Forged, changed or cut."""
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    NO_CLAIM = "no_claim"
    """A good token whose claim is missing or is no user."""


class Refused(Exception):
    """A token is refused; only within the reading of one token."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause
