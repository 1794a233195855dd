"""The identity of a charge, and the window that it falls into.

One request is billed once under one meter: (account, event name, trace id, span id). The ledger files a charge
under that identity itself, not under a hash of it: nothing can collide, and the span can be read back from the
key. The second of the span's end stands in front, so that new charges land next to each other in the tree.
"""

MINUTE = 60
DAY = 86_400
STRIPE_PAST = 35 * DAY
"""How far back Stripe takes timestamps, in seconds (reference: API `billing/meter-event/create`)."""
IDENTIFIER_MEMORY = 24 * 3600
"""How long Stripe remembers an identifier for certain, in seconds."""

_LAST_SECOND = 0xFFFF_FFFF


def charge_key(meter_id: int, trace_id: bytes, span_id: bytes, ended_ns: int) -> bytes:
    """The key of a charge, 32 bytes: second of the span's end, trace id, span id, meter.

    A span that is sent again has the same key, whatever way it comes. `ended_ns` is the end as it was on the
    wire, even if it lies in the future.
    """
    return second_part(ended_ns) + trace_id + span_id + meter_part(meter_id)


def second_part(ended_ns: int) -> bytes:
    """The first part of a key, 4 bytes, which all spans share that end in one second."""
    return min(ended_ns // 1_000_000_000, _LAST_SECOND).to_bytes(4, "big")


def second_of(key: bytes) -> int:
    """The second of the span's end, of a charge or of the first part of its key."""
    return int.from_bytes(key[:4], "big")


def meter_part(meter_id: int) -> bytes:
    """The last part of a key, 4 bytes."""
    return meter_id.to_bytes(4, "big")


def trace_of(key: bytes) -> tuple[bytes, bytes]:
    """(trace id, span id) of a charge."""
    return key[4:20], key[20:28]


def first_key(second: int) -> bytes:
    """The smallest key that a charge of this second, or a later one, can have."""
    return min(max(second, 0), _LAST_SECOND).to_bytes(4, "big")


def window_start(at_ns: int, length: int) -> int:
    """Start, in unix seconds, of the window of `length` seconds that `at_ns` falls into.

    Windows are aligned to the UTC minute and never cross it, so that a window lies in one billing period unless
    the period changes in the middle of a minute.
    """
    second = at_ns // 1_000_000_000
    within = second % MINUTE
    return second - within % length
