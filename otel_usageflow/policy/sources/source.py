"""What a user source is: a configuration that makes a reader."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from otel_usageflow.config.types import ConfigModel
from otel_usageflow.policy.endpoint import Endpoint
from otel_usageflow.policy.jwt_trust import Trust
from otel_usageflow.policy.request import HttpRequest


@dataclass(frozen=True, slots=True)
class Setting:
    """What a source knows about the policy that it belongs to."""

    placeholders: frozenset[str]
    """Texts that are no user."""
    endpoints: tuple[Endpoint, ...]
    body_attribute: str
    policy: str = ""
    """Its name."""
    trust: Trust = field(default_factory=lambda: Trust(fixed=True))
    """What verifies tokens, for all policies of a processor."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the user from a request."""

    label: str
    """Says in a record where the user was found, for example `header x-account-id`."""
    read: Callable[[HttpRequest], str | None]
    """The user, or None: nothing is ever guessed.

    Raises nothing on any input but `Unavailable`, when the request cannot be judged yet and has to come again.
    """
    span_keys: frozenset[str] = frozenset()
    """The span attributes that it reads."""
    resource_keys: frozenset[str] = frozenset()
    """The resource attributes that it reads."""


class Source(ConfigModel, ABC):
    """One entry under `user`."""

    @abstractmethod
    def reader(self, setting: Setting) -> Reader:
        """Prepare the source for one policy.

        Raises:
            ValueError: a key file cannot be used; the message says which and why.
        """
