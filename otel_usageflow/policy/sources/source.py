"""What a user source is: a configuration that makes a reader."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pydantic import Field

from otel_usageflow.config.types import ConfigModel
from otel_usageflow.policy.endpoint import Endpoint
from otel_usageflow.policy.jwt_trust import Trust
from otel_usageflow.policy.request import HttpRequest
from otel_usageflow.policy.text import is_user
from otel_usageflow.policy.transform import Steps, transform


@dataclass(frozen=True, slots=True)
class Setting:
    """What a source knows about the policy that it belongs to."""

    placeholders: frozenset[str]
    """Texts that are no user."""
    endpoints: tuple[Endpoint, ...]
    """Those that are paths."""
    body_attribute: str
    policy: str = ""
    """Its name."""
    trust: Trust = field(default_factory=lambda: Trust(fixed=True))
    """What verifies tokens, for all policies of a processor."""
    metadata: bool = False
    """Whether the policy has gRPC endpoints, whose headers are metadata."""


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
    lasting: bool = False
    """Whether these attributes alone decide, and what it said once of them it may be remembered to say again. Not so
    where time decides, too, or where what it reads is a secret that nobody should keep."""


class Source(ConfigModel, ABC):
    """One entry under `user`."""

    transform: Steps = Field(
        default=(),
        description="what is made of the value: lower, strip_prefix, strip_suffix, regex, or a list of them in order",
    )

    @classmethod
    def key(cls) -> str:
        """The key under `user` that stands for this source: its first field."""
        return next(name for name in cls.model_fields if name not in Source.model_fields)

    def prepared(self, setting: Setting) -> Reader:
        """Prepare the source and its `transform` for one policy.

        Raises:
            ValueError: a key file cannot be used; the message says which and why.
        """
        reader = self.reader(setting)
        if not self.transform:
            return reader
        read, change = reader.read, transform(self.transform, setting.placeholders)

        def changed(request: HttpRequest) -> str | None:
            found = read(request)
            user = None if found is None else change(found)
            return user if user is not None and is_user(user, setting.placeholders) else None

        return replace(reader, read=changed)

    @abstractmethod
    def reader(self, setting: Setting) -> Reader:
        """Prepare the source alone for one policy.

        Raises:
            ValueError: a key file cannot be used; the message says which and why.
        """
