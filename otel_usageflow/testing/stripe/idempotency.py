"""Idempotency keys: the first answer is kept for 24 h and replayed (docs.stripe.com/api/idempotent_requests)."""

import hashlib
from dataclasses import dataclass

from otel_usageflow.testing.stripe.failures import invalid, key_in_flight, key_mismatch
from otel_usageflow.testing.stripe.message import Answer, Body, Request

REPLAYED = {"Idempotent-Replayed": "true"}


@dataclass(slots=True)
class Entry:
    """One key: what it was used for and, once that is known, what came of it."""

    mark: bytes
    since: float
    answer: Answer | Body | None = None
    """The body alone stands for a plain 200, of which there may be millions."""


def whole(kept: Answer | Body) -> Answer:
    """An answer as it was sent."""
    return kept if isinstance(kept, Answer) else Answer(200, kept)


def mark_of(request: Request) -> bytes:
    """What must be the same when a key is used again: the path and the parameters, in any order."""
    text = "\0".join((request.path, *(f"{name}\0{value}" for name, value in sorted(request.pairs))))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()


class IdempotencyStore:
    """The keys of one account, in the order of their first use."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def begin(self, key: str, mark: bytes, now: float, memory: float) -> Answer | None:
        """Claim a key: the stored answer if there is one, None if the call is to be executed.

        Raises:
            StripeFailure: 400 the key is too long or was used with other parameters, 409 it is in flight.
        """
        self._forget(now - memory)
        if len(key) > 255:
            raise invalid("Idempotency keys can be at most 255 characters long.")
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = Entry(mark, now)
            return None
        if entry.mark != mark:
            raise key_mismatch(key)
        if entry.answer is None:
            raise key_in_flight(key)
        answer = whole(entry.answer)
        return answer._replace(headers={**answer.headers, **REPLAYED}, malformed=False)

    def finish(self, key: str, answer: Answer) -> None:
        """Keep what came of the call."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.answer = answer.body if answer == Answer(200, answer.body) else answer

    def release(self, key: str) -> None:
        """Forget a call that was not executed."""
        self._entries.pop(key, None)

    def finished(self) -> list[tuple[str, Entry]]:
        """Every key whose answer is known."""
        return [(key, entry) for key, entry in self._entries.items() if entry.answer is not None]

    def restore(self, key: str, entry: Entry) -> None:
        """Put back what was kept."""
        self._entries[key] = entry

    def _forget(self, since: float) -> None:
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.since > since or entry.answer is None:
                return
            del self._entries[key]
