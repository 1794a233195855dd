"""When a value is one text, and when a text is a user."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from otel_usageflow.model.attributes import Scalar, Value

PLACEHOLDERS: Final = frozenset({"", "[REDACTED]", "REDACTED", "Redacted", "****", "-"})
"""What instrumentations and gateways write in place of a value; never a user."""
MAX_USER_LENGTH: Final = 500
"""Characters; what is longer is no user. Stripe's metadata values end there."""


def is_clean(text: str) -> bool:
    """Whether the text was valid UTF-8 on the wire."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def scalar_text(value: Scalar) -> str | None:
    """The text of a string, an integer, a boolean or UTF-8 bytes, trimmed; None for all else."""
    if isinstance(value, str):
        value = value.strip()
        return value if value.isascii() or is_clean(value) else None
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode().strip()
        except UnicodeDecodeError:
            return None
    return None


def one_text(values: Iterable[Value]) -> str | None:
    """The one text that all of these values are, or None.

    None also when there are none, when two differ, or when one has no text. A list counts as its elements.
    """
    found: str | None = None
    for value in values:
        for element in value if isinstance(value, list) else (value,):
            if type(element) is str and element.isascii():  # by far the most frequent, so without a call
                text: str | None = element.strip()
            else:
                text = scalar_text(element)
            if text is None or (found is not None and text != found):
                return None
            found = text
    return found


def user_text(values: Iterable[Value], placeholders: frozenset[str]) -> str | None:
    """The user that these values name, or None: nobody is guessed."""
    text = one_text(values)
    return text if text is not None and is_user(text, placeholders) else None


def is_user(text: str, placeholders: frozenset[str]) -> bool:
    """Whether a trimmed text can be a user: no placeholder and not too long."""
    return text not in placeholders and len(text) <= MAX_USER_LENGTH


def plain_text(value: Value) -> str | None:
    """The text by which a value is compared in `match` and sent in `payload`; numbers in plain digits."""
    if isinstance(value, list):
        return (
            one_text(value)
            if not any(isinstance(element, float) for element in value)
            else (plain_text(value[0]) if len(value) == 1 else None)
        )
    return number_text(value) if isinstance(value, float) else scalar_text(value)


def number_text(value: float) -> str | None:
    """A float in plain digits, without an exponent; None if it is not finite."""
    number = Decimal(repr(value))
    return decimal_text(number) if number.is_finite() else None


def decimal_text(value: int | Decimal) -> str:
    """An exact number in plain digits: no exponent, no zeros at the end of the fraction."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text
