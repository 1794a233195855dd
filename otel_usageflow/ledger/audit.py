"""The audit log: an entry for everything that changed money or policy, each with a hash over the one before it.

The hash of an entry is SHA-256 over the hash before it and the entry's fields as JSON. Whoever takes a line out, or
changes one, would have to write all later ones anew, and then the last hash is another one than was noted elsewhere.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

GENESIS = bytes(32)
"""What stands before the first entry."""
SERVICE = "service"
"""The actor of what the service did by itself."""

CREATED, MIGRATED, CONFIGURED = "created", "migrated", "configured"
SEALED, PRUNED, RECOVERED, COPIED = "sealed", "pruned", "recovered", "copied"
"""Actions of the ledger itself; those of people are named where they are done."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written down. `before` and `after` hold JSON values; quantities as decimal strings."""

    actor: str
    """`service`, or who gave the command."""
    action: str
    """A verb in the past, for example `discarded`."""
    subject: str
    """What was changed, for example `meter event uf_s1_...`."""
    before: Mapping[str, object] = field(default_factory=dict)
    after: Mapping[str, object] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log, as it is kept: `before` and `after` as JSON text. `at` is unix seconds."""

    entry: int
    at: float
    actor: str
    action: str
    subject: str
    before: str
    after: str
    why: str
    hash: bytes


def pruned(first_event: int, last_event: int, events: int, **more: object) -> Change:
    """Meter events were removed because of their age: `events` of those with ids `first_event` to `last_event`.

    Without such an entry `ledger verify` calls a meter event that is missing a removed one.
    """
    after = {"first_event": first_event, "last_event": last_event, "events": events, **more}
    return Change(SERVICE, PRUNED, "usage", after=after)


def following(last: Entry | None, change: Change, at: float) -> Entry:
    """The entry for a change that comes after `last`."""
    number = last.entry + 1 if last is not None else 1
    before, after = _text(change.before), _text(change.after)
    at = float(at)  # as it is read back: the hash covers its text
    fields = (number, at, change.actor, change.action, change.subject, before, after, change.why)
    return Entry(*fields, _hash(last.hash if last is not None else GENESIS, fields))


def first_break(entries: Iterable[Entry]) -> int | None:
    """The number of the first entry that does not fit what stands before it; None if the chain holds."""
    expected, before = 1, GENESIS
    for one in entries:
        fields = (one.entry, one.at, one.actor, one.action, one.subject, one.before, one.after, one.why)
        if one.entry != expected or one.hash != _hash(before, fields):
            return expected
        expected, before = expected + 1, one.hash
    return None


def _text(value: Mapping[str, object]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _hash(before: bytes, fields: tuple[object, ...]) -> bytes:
    return hashlib.sha256(before + json.dumps(fields, default=repr).encode()).digest()
