"""A bounded memory of what was found out about tokens, by the digest of each."""

from typing import Final, Generic, TypeVar

Entry = TypeVar("Entry")


class RecentlyUsed(Generic[Entry]):
    """Keeps at least the `size` entries that were used last, and at most twice as many.

    Two generations: when the young one is full it becomes the old one, and the old one is forgotten; what is used
    moves back to the young one. No entry has a place of its own in an order, so several threads may use it at once.
    """

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._young: dict[bytes, Entry] = {}
        self._old: dict[bytes, Entry] = {}

    def get(self, key: bytes) -> Entry | None:
        """What is remembered under a key."""
        entry = self._young.get(key)
        if entry is None and (entry := self._old.get(key)) is not None:
            self.put(key, entry)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Remember it."""
        young = self._young
        if len(young) >= self._size:
            self._old, self._young = young, {}
            young = self._young
        young[key] = entry

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
