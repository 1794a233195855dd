"""The person who gives a command: their name for the audit log, and what they are asked."""

import getpass
import socket
import sys

from otel_usageflow.errors import UsageError


def actor() -> str:
    """Who gives the command, for the audit log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether the person wants it; `yes`: they have said so already.

    Raises:
        UsageError: there is no terminal to ask on.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("this is no terminal to ask on; add --yes to do what is shown above")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    sys.stderr.write("Nothing was changed.\n")
    return False


def reason_of(because: str | None) -> str:
    """What `--because` says.

    Raises:
        UsageError: nothing.
    """
    if because is None or not because.strip():
        raise UsageError('say why with --because "TEXT"; it is kept in the audit log')
    return because.strip()
