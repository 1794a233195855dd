"""A set of keys that somebody keeps up to date, and whether it is fresh enough to refuse a token.

The pure part sees an immutable `KeySet`; whoever loads keys (the processor) replaces it. A token that no key verifies
may be forged, or signed by a key that is newer than the set; a key that is gone may be back. So a token is refused
only by keys that were asked for after its request had ended. Until then its request has to come again, and a refresh
is asked for.
"""

from collections.abc import Callable, Sequence
from typing import Final

from otel_usageflow.policy.jwt_key_set import NO_KEYS, KeySet
from otel_usageflow.policy.jwt_keys import VerificationKey

FOREVER: Final = 2**63
"""Nanoseconds since 1970, later than any span: for keys that nobody has to load again."""
_MAX_NAMES: Final = 1000
_MAX_NAME: Final = 200


def _nothing() -> None:
    """What waking does where nobody loads keys."""


def short_name(kid: str | None) -> str:
    """A `kid` of bounded length; empty for a token without one."""
    return (kid or "")[:_MAX_NAME]


class KeyRing:
    """The keys of one place.

    Args:
        place: the path or address, for people.
        algorithms: all that its keys may allow.
        read: makes keys of what the place holds; raises ValueError with a sentence that names the place.
        remote: whether the place is an address and not a file.
    """

    def __init__(
        self,
        place: str,
        algorithms: Sequence[str],
        read: Callable[[bytes], tuple[Sequence[VerificationKey], Sequence[str]]],
        *,
        remote: bool,
    ) -> None:
        self.place: Final = place
        self.algorithms: Final = frozenset(algorithms)
        self.remote: Final = remote
        self.keys: KeySet = NO_KEYS
        """The keys of now; replaced, never changed."""
        self.loaded = False
        """Whether there have ever been keys."""
        self.ignored: tuple[str, ...] = ()
        """What is wrong with keys that were left out."""
        self.doubted = False
        """Set when a token was refused without a refresh, because the last one had not helped."""
        self.wake: Callable[[], None] = _nothing
        """Called from any thread when a refresh is needed now."""
        self._read = read
        self._fresh_ns = 0
        self._asked = False
        self._waiting: dict[str, None] = {}
        self._absent: dict[str, None] = {}

    @property
    def wanted(self) -> bool:
        """Whether requests wait for a refresh."""
        return self._asked

    def settled(self, keys: KeySet, name: str, ended_ns: int) -> bool:
        """Whether keys that do not verify a token are reason enough to refuse it.

        Args:
            keys: those that were tried.
            name: what the token calls its key, by `short_name`.
            ended_ns: when its request ended, in nanoseconds since 1970.
        """
        fresh_ns = self._fresh_ns
        if keys is not self.keys:
            return False  # they came meanwhile
        if self.loaded and fresh_ns >= ended_ns:
            return True
        if self.loaded and name in self._absent:
            self.doubted = True
            return True
        if len(self._waiting) < _MAX_NAMES:
            self._waiting[name] = None
        if not self._asked:
            self._asked = True
            self.wake()
        return False

    def begin(self) -> dict[str, None]:
        """A refresh begins. Returns the names that wait for it."""
        waiting, self._waiting, self._asked, self.doubted = self._waiting, {}, False, False
        return waiting

    def take(self, data: bytes, at_ns: int) -> bool:
        """Take what the place held at a moment. Returns whether the keys have changed.

        Raises:
            ValueError: it holds no keys; those from before stay.
        """
        read, ignored = self._read(data)
        before = self.keys
        self.ignored = tuple(ignored)
        self.keys = before.followed_by(read, at_ns)
        self.loaded = True
        if self.keys is not before:
            self._absent = {}
        return self.keys is not before

    def end(self, waiting: dict[str, None], began_ns: int) -> None:
        """A refresh has ended, well or not.

        Args:
            waiting: what `begin` returned.
            began_ns: when it asked, the last time if it asked several times.
        """
        if len(self._absent) + len(waiting) > _MAX_NAMES:
            self._absent = {}
        self._absent = {**self._absent, **waiting}
        self._fresh_ns = max(self._fresh_ns, began_ns)

    def keep(self) -> None:
        """Judge by the keys of now for good: nobody will load others."""
        self._fresh_ns = FOREVER
