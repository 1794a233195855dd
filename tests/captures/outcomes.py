"""What may become of a request under a policy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Billed:
    """The request is usage of `user` under `policy`."""

    policy: str
    user: str
    quantity: str = "1"


@dataclass(frozen=True)
class Quarantined:
    """The request is kept for `policy`, but cannot be billed."""

    policy: str
    reason: str = "no_user"


@dataclass(frozen=True)
class Unbilled:
    """The request is one of `policy`, whose status rule says no."""

    policy: str


Outcome = Billed | Quarantined | Unbilled
