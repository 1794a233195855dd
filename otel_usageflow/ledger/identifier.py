"""Identifiers of meter events: what lets Stripe recognise one that it has seen.

The identifier of a single record comes from its charge alone, so that two ledgers that saw the same span make
the same one. The identifier of a sum names the ledger and everything that was summed: two replicas that hold
different parts of a minute must never make the same one, or the second part would be refused as a duplicate
and lost.

An identifier also says where its event is kept, so that an answer of Stripe that names it is found without an index
over random text: `uf_s<event id>_<digest>` for a sum, `uf_r<second of the span's end>_<digest>` for a record, both
numbers hexadecimal. `_p<n>` is a further part of an amount with too many digits, `_r<n>` the n-th resend of what was
certainly not counted, and in an idempotency key `_k<n>` follows a stored failure. A call of the stream has a key of
its own, `uf_b<batch id>_<random>`, which says where its events are written down.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b

from otel_usageflow.ledger.charge import trace_of
from otel_usageflow.ledger.freeze import Draft

MAX_LENGTH = 100
_BATCH = re.compile(r"uf_b([0-9a-f]{1,15})_[0-9a-f]{16}")
_PLACE = re.compile(r"uf_(?:s(?P<event_id>[0-9a-f]{1,16})|r(?P<second>[0-9a-f]{1,8}))_[0-9a-f]{40}(?:_[pr]\d+)*")


def identifier(ledger_id: str, event_id: int, draft: Draft) -> str:
    """At most 100 characters, as Stripe's API reference for `billing/meter-event/create` demands."""
    account, event_name, customer = draft.lane
    if draft.record_key is not None:
        trace_id, span_id = trace_of(draft.record_key)
        digest = _digest([account, event_name, trace_id.hex(), span_id.hex()])
        place = f"r{int.from_bytes(draft.record_key[:4], 'big'):x}"
    else:
        covered = [f"{w.series_id}/{w.start}/{w.length}/{w.first_seq}-{w.last_seq}" for w in draft.windows]
        facts = [account, event_name, customer, draft.payload, draft.value, str(draft.timestamp)]
        digest = _digest([ledger_id, str(event_id), *facts, *covered])
        place = f"s{event_id:x}"
    name = f"uf_{place}_{digest}"
    return name if draft.part == 0 else f"{name}_p{draft.part}"


def adjustment_identifier(ledger_id: str, event_id: int, adjustment_id: int, value: str) -> str:
    """The identifier of a meter event that tells a correction; it is found as that of a sum is."""
    return f"uf_s{event_id:x}_{_digest([ledger_id, 'adjustment', str(adjustment_id), value])}"


def resend_identifier(name: str, number: int) -> str:
    """The identifier under which an event is sent for the `number`-th time after it was certainly not counted.

    Stripe may keep the old one reserved.
    """
    return f"{re.sub(r'_r[0-9]+$', '', name)}_r{number}"


def of_idempotency_key(key: str) -> str:
    """The identifier of the meter event that was sent with this key."""
    return re.sub(r"_k[0-9]+$", "", key)


def place_of(name: str) -> tuple[int | None, int | None]:
    """(event id, second of the span's end) that an identifier names; at most one of them, none if it is not ours."""
    found = _PLACE.fullmatch(name)
    if found is None:
        return None, None
    if found["event_id"] is not None:
        return int(found["event_id"], 16), None
    return None, int(found["second"], 16)


def next_idempotency_key(event_identifier: str, attempts: int) -> str:
    """The key to use after a stored failure was replayed. The identifier itself never changes."""
    return f"{event_identifier}_k{attempts}"


def batch_key(batch_id: int, token: str) -> str:
    """The idempotency key of one call of the stream. `token` is random, 16 hexadecimal digits."""
    return f"uf_b{batch_id:x}_{token}"


def batch_of(key: str) -> int | None:
    """The batch that an idempotency key names; None if it is not that of a call of the stream."""
    found = _BATCH.fullmatch(key)
    return int(found[1], 16) if found is not None else None


def _digest(facts: Sequence[str]) -> str:
    hashed = blake2b(digest_size=20)
    for fact in facts:
        encoded = fact.encode()
        hashed.update(len(encoded).to_bytes(4, "big") + encoded)
    return hashed.hexdigest()
