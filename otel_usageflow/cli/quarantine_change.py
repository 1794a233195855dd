"""Releasing and discarding from the command line: first what would happen, then a question, then step by step."""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from otel_usageflow.cli.people import actor, confirmed
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.extensions.sqlite_storage.quarantine.desk import Quarantine
    from otel_usageflow.ledger.quarantine import Decided, Entry, Filters
    from otel_usageflow.model.usage import Quantity

_TELL_EVERY = 2.0
"""Seconds between two lines of progress."""


def release(
    quarantines: "Sequence[Quarantine]",
    filters: "Filters",
    decided: "Decided",
    asked: Mapping[str, object],
    why: str,
    *,
    yes: bool,
) -> int:
    """Release what fits, after a question."""
    from otel_usageflow.extensions.sqlite_storage.quarantine.decisions import Who
    from otel_usageflow.ledger.quarantine import Way, release_of

    now = time.time()
    filters = replace(filters, aside_until=now)
    seen = _look(quarantines, filters, lambda entry: release_of(entry, decided, now), decided.quantity)
    if not seen.tell("Of what is in quarantine, this would be released:", tuple(Way)):
        return 0
    if not confirmed("Release it?", yes=yes):
        return 0
    who = Who(actor(), why, asked)
    return _step_by_step(
        "released",
        quarantines,
        filters,
        seen.doable,
        lambda one, entries: one.release(entries, decided, who),
        decided.quantity,
    )


def discard(
    quarantines: "Sequence[Quarantine]",
    filters: "Filters",
    asked: Mapping[str, object],
    why: str | None,
    *,
    yes: bool,
) -> int:
    """Discard what fits, after a reason and a question."""
    from otel_usageflow.extensions.sqlite_storage.quarantine.decisions import Who
    from otel_usageflow.ledger.quarantine import discard_of

    filters = replace(filters, aside_until=time.time())
    if why is None and not sys.stdin.isatty():
        raise UsageError('quarantine discard: say why with --because "TEXT"; it is kept in the audit log')
    seen = _look(quarantines, filters, lambda entry: discard_of(entry) or _NEVER)
    if not seen.tell("Of what is in quarantine, this would never be billed:", (_NEVER,)):
        return 0
    if why is None:
        why = _ask("Why is it not billed? ")
    if not why.strip():
        raise UsageError("quarantine discard: without a reason nothing is discarded; nothing was changed")
    if not confirmed("Discard it?", yes=yes):
        return 0
    who = Who(actor(), why.strip(), asked)
    return _step_by_step(
        "discarded", quarantines, filters, seen.doable, lambda one, entries: one.discard(entries, who)
    )


_NEVER = "discarded"


@dataclass
class _Seen:
    """What would happen: reason and what -> entries, requests, quantity."""

    doable: int = 0
    lines: "dict[tuple[str, str], list[Quantity]]" = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))

    def tell(self, heading: str, done: Sequence[str]) -> bool:
        """Print it; whether anything can be done."""
        from otel_usageflow.ledger.amount import plain

        if not self.lines:
            _say("Nothing in quarantine fits.")
            return False
        for wanted, title in ((True, heading), (False, "This is left alone:")):
            lines = [(key, told) for key, told in sorted(self.lines.items()) if (key[1] in done) is wanted]
            if lines:
                _say(title)
            for (reason, what), (entries, requests, quantity) in lines:
                amounts = f"{requests} requests, quantity {plain(quantity)}, in {entries} entries"
                _say(f"  {reason:<19}{amounts}: {what}")
        return self.doable > 0


def _look(
    quarantines: "Sequence[Quarantine]",
    filters: "Filters",
    what: "Callable[[Entry], str]",
    decided: "Quantity | None" = None,
) -> _Seen:
    from otel_usageflow.ledger.amount import add

    seen = _Seen()
    for entry in _entries(quarantines, filters):
        would = what(entry)
        told = seen.lines[str(entry.reason), str(would)]
        told[0] = add(told[0], 1)
        told[1] = add(told[1], entry.requests)
        told[2] = add(told[2], _quantity(entry, decided))
    from otel_usageflow.ledger.quarantine import Obstacle

    obstacles = {str(one) for one in Obstacle}
    seen.doable = sum(int(told[0]) for (_, would), told in seen.lines.items() if would not in obstacles)
    return seen


def _quantity(entry: "Entry", decided: "Quantity | None") -> "Quantity":
    """What an entry counts: a request without a quantity as much as was decided."""
    return (decided or 0) if entry.quantity is None else entry.quantity


def _entries(quarantines: "Sequence[Quarantine]", filters: "Filters") -> "Iterator[Entry]":
    for one in quarantines:
        for page in one.entries(filters):
            yield from page


def _step_by_step(
    verb: str,
    quarantines: "Sequence[Quarantine]",
    filters: "Filters",
    expected: int,
    step: "Callable[[Quarantine, list[Entry]], list[Entry]]",
    decided: "Quantity | None" = None,
) -> int:
    """Each page is a transaction of its own, so that the service never waits long."""
    from otel_usageflow.ledger.amount import add, plain

    entries, requests = 0, 0
    quantity: Quantity = 0
    reasons: Counter[str] = Counter()
    told_at = time.monotonic()
    for one in quarantines:
        for page in one.entries(filters):
            for done in step(one, page):
                entries += 1
                requests += done.requests
                quantity = add(quantity, _quantity(done, decided))
                reasons[str(done.reason)] += done.requests
            if time.monotonic() - told_at > _TELL_EVERY:
                told_at = time.monotonic()
                _say(f"{verb} {entries} of {expected} entries")
    by_reason = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    sys.stdout.write(
        f"{verb}: {requests} requests, quantity {plain(quantity)}" + (f" ({by_reason})\n" if entries else "\n")
    )
    return 0


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
