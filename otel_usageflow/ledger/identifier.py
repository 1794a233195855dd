"""Identifiers of meter events: what lets Stripe recognise one that it has seen.

The identifier of a single record comes from its charge alone, so that two ledgers that saw the same span make
the same one. The identifier of a sum names the ledger and everything that was summed: two replicas that hold
different parts of a minute must never make the same one, or the second part would be refused as a duplicate
and lost.
"""

from collections.abc import Sequence
from hashlib import blake2b

from otel_usageflow.ledger.charge import trace_of
from otel_usageflow.ledger.freeze import Draft

MAX_LENGTH = 100


def identifier(ledger_id: str, event_id: int, draft: Draft) -> str:
    """At most 100 characters, as Stripe's API reference for `billing/meter-event/create` demands."""
    account, event_name, customer = draft.lane
    if draft.record_key is not None:
        trace_id, span_id = trace_of(draft.record_key)
        digest = _digest([account, event_name, trace_id.hex(), span_id.hex()])
    else:
        covered = [f"{w.series_id}/{w.start}/{w.length}/{w.first_seq}-{w.last_seq}" for w in draft.windows]
        facts = [account, event_name, customer, draft.payload, draft.value, str(draft.timestamp)]
        digest = _digest([ledger_id, str(event_id), *facts, *covered])
    return f"uf_{digest}" if draft.part == 0 else f"uf_{digest}_p{draft.part}"


def next_idempotency_key(event_identifier: str, attempts: int) -> str:
    """The key to use after a stored failure was replayed. The identifier itself never changes."""
    return f"{event_identifier}_k{attempts}"


def _digest(facts: Sequence[str]) -> str:
    hashed = blake2b(digest_size=20)
    for fact in facts:
        encoded = fact.encode()
        hashed.update(len(encoded).to_bytes(4, "big") + encoded)
    return hashed.hexdigest()
