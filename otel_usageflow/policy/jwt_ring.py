"""A set of keys that somebody keeps up to date, and whether they were looked for before a token is refused.

The pure part sees an immutable `KeySet`; whoever loads keys (the processor) replaces it. A token that no key verifies
may be forged, or signed by a key that is newer than the set; a key that is gone may be back. So when a name of a key
is first met in vain, its request has to come again, and a refresh is asked for. Only names that a refresh has looked
for are refused. No clock takes part in that: those of the machines that send spans may be wrong.
"""

from collections.abc import Callable, Sequence
from typing import Final

from otel_usageflow.policy.jwt_key_set import NO_KEYS, KeySet
from otel_usageflow.policy.jwt_keys import VerificationKey

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
        self.last: tuple[bytes, int] | None = None
        """What the place held when it was last read well, and when that was."""
        self.doubted = False
        """Set when a token was refused without a refresh, because the last one had not helped."""
        self.wake: Callable[[], None] = _nothing
        """Called from any thread when a refresh is needed now."""
        self._read = read
        self._kept = False
        self._asked = False
        self._waiting: dict[str, None] = {}
        self._absent: dict[str, None] = {}

    @property
    def wanted(self) -> bool:
        """Whether requests wait for a refresh."""
        return self._asked

    def settled(self, keys: KeySet, name: str) -> bool:
        """Whether keys that do not verify a token are reason enough to refuse it.

        Args:
            keys: those that were tried.
            name: what the token calls its key, by `short_name`.
        """
        looked_for = name in self._absent
        if keys is not self.keys:
            return False  # they came meanwhile
        if self.loaded and (looked_for or self._kept):
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
        self.last = (data, at_ns)
        if self.keys is not before:
            self._absent = {}
        return self.keys is not before

    def end(self, waiting: dict[str, None]) -> None:
        """A refresh has ended, well or not; `waiting` is what `begin` returned."""
        if len(self._absent) + len(waiting) > _MAX_NAMES:
            self._absent = {}
        self._absent = {**self._absent, **waiting}

    def keep(self) -> None:
        """Judge by the keys of now for good: nobody will load others."""
        self._kept = True
