"""Regular expressions of RE2: their time is linear in the text, whatever text a caller sends."""

from typing import Any, Final

import re2

MAX_LENGTH: Final = 1_000
"""Characters of a pattern."""

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20


def compile_regex(pattern: str) -> Any:
    """Compile a pattern; what comes back has the methods of the standard library's patterns.

    Raises:
        ValueError: it is none; the message says why.
    """
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"the regular expression is longer than {MAX_LENGTH} characters")
    try:
        return re2.compile(pattern, _OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0]
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else "it is not valid Unicode"
        raise ValueError(f"{pattern!r} is no regular expression of RE2: {reason}") from None
