"""Every error of this package, in one tree.

UsageflowError
├── ConfigErrors            what is wrong with a configuration, all of it at once (exit 1)
├── UsageError              a command was called in a way that makes no sense (exit 1)
├── StartError              the service could not start, or failed while running (exit 2)
│   ├── CannotListen        an endpoint of the configuration cannot be opened
│   ├── HalfApplied         new policies are in force in one component and not in another
│   └── StorageError        the ledger cannot be used, and the message says the way out
│       ├── StorageCorrupt
│       ├── SchemaTooNew
│       └── LedgerInUse
└── ConsumeError            what a consumer may raise to a receiver
    ├── Unavailable         cannot take it now: the client is asked to send it again
    ├── InvalidData         cannot be read, and never will be
    ├── TooLarge            over the size limit
    ├── Unauthenticated     no valid credentials
    └── PermissionDenied    credentials that do not allow this

An error says what is wrong, where, and what to do next.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass


class UsageflowError(Exception):
    """Anything this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong with a configuration.

    `path` has the Collector's form, for example `exporters::stripe_meter::api_key`; it is empty when the
    whole file is meant.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigErrors(UsageflowError):
    """All problems of a configuration, found in one go."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(UsageflowError):
    """A command was called in a way that makes no sense."""


class StartError(UsageflowError):
    """The service could not start, or failed while running."""


class CannotListen(StartError):
    """An endpoint of the configuration cannot be opened.

    Args:
        path: where the endpoint stands in the configuration, as `receivers::otlp::protocols::grpc::endpoint`.
        endpoint: the address, as `127.0.0.1:4317`.
        reason: the operating system's error, or words that stand in for one.
    """

    def __init__(self, path: str, endpoint: str, reason: OSError | str) -> None:
        if isinstance(reason, OSError):
            # asyncio puts words of its own around the number; a name that is not found has a negative one.
            number = reason.errno or 0
            reason = os.strerror(number) if number > 0 else reason.strerror or str(reason)
        super().__init__(
            f"{path}: cannot listen on {endpoint}: {reason}; "
            "stop the process that has this address, or choose another endpoint"
        )


class HalfApplied(StartError):
    """New policies are in force in one component and not in another, because of a mistake in one of them.

    The service stops: only a start is sure to have them as a whole.
    """


class StorageError(StartError):
    """The ledger cannot be used."""


class StorageCorrupt(StorageError):
    """The ledger's file is damaged."""


class SchemaTooNew(StorageError):
    """The ledger was written by a newer version."""


class LedgerInUse(StorageError):
    """Another process has the ledger open for writing."""


class ConsumeError(UsageflowError):
    """What a consumer may raise to a receiver; the receiver turns it into the protocol's status."""


class Unavailable(ConsumeError):
    """Nothing is wrong with the data, it just cannot be taken now.

    Args:
        message: why, for the client's log.
        retry_after: seconds after which the client should try again.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class InvalidData(ConsumeError):
    """The data cannot be read; sending it again would not help."""


class TooLarge(ConsumeError):
    """The request is over the size limit, before or after decompression."""


class Unauthenticated(ConsumeError):
    """The request has no valid credentials."""


class PermissionDenied(ConsumeError):
    """The request's credentials do not allow it."""
