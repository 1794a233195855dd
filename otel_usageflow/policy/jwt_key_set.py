"""The keys that are trusted at one moment, and those that were until a while ago. Never changed, only replaced."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from otel_usageflow.policy.jwt_keys import VerificationKey

MAX_WITHDRAWN: Final = 100


@dataclass(frozen=True, slots=True)
class Trusted:
    """A key, and for how long it was trusted."""

    key: VerificationKey
    until_ns: int | None = None
    """When it was found withdrawn, in nanoseconds since 1970; None while it is trusted.

    Requests before that moment are still judged by it: spans of the minutes before a rotation come after it.
    """


class KeySet:
    """Trusted keys by name, those of today first.

    Args:
        trusted: in the order in which they are tried.
    """

    __slots__ = ("_by_kid", "trusted")

    def __init__(self, trusted: Iterable[Trusted]) -> None:
        self.trusted: Final = tuple(trusted)
        self._by_kid: dict[str | None, list[Trusted]] = {None: []}
        for one in self.trusted:
            self._by_kid.setdefault(one.key.kid, []).append(one)

    @property
    def current(self) -> int:
        """How many keys are trusted now."""
        return sum(one.until_ns is None for one in self.trusted)

    def has(self, kid: str | None) -> bool:
        """Whether a key has this name."""
        return kid is not None and kid in self._by_kid

    def for_token(self, kid: str | None) -> Sequence[Trusted]:
        """The keys to try for a token: those of its `kid`, else those without a name; without a `kid`, all."""
        if kid is None:
            return self.trusted
        return self._by_kid.get(kid) or self._by_kid[None]

    def followed_by(self, keys: Sequence[VerificationKey], at_ns: int) -> "KeySet":
        """The set after these keys were read at a moment; this one itself if they are the same.

        Keys that are not among them any more count as withdrawn at that moment.
        """
        new = {key.mark for key in keys}
        if new == {one.key.mark for one in self.trusted if one.until_ns is None}:
            return self
        withdrawn = [
            Trusted(one.key, at_ns if one.until_ns is None else one.until_ns)
            for one in self.trusted
            if one.key.mark not in new
        ]
        withdrawn.sort(key=lambda one: -(one.until_ns or 0))
        return KeySet([*map(Trusted, keys), *withdrawn[:MAX_WITHDRAWN]])


NO_KEYS: Final = KeySet(())
