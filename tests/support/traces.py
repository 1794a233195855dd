"""Traces built by hand, for tests of quantities that are summed over them; and what must come out, told slowly."""

from collections.abc import Iterable, Mapping, Sequence

from ledgers import Book

from otel_usageflow.ledger.ledger import TracesSettled
from otel_usageflow.model.usage import (
    Quantity,
    Reason,
    Terms,
    TraceRequest,
    TraceSpan,
    UnflaggedSpan,
    UsageBatch,
    UsageRecord,
)

TRACE = bytes(range(16))
SECOND = 1_000_000_000
NOW = 1_800_000_000
"""Unix seconds."""
TOKENS = "gen_ai.usage.output_tokens"
TERMS = Terms("tokens", "tokens_used", "account_id", quantity=None)


def span_id(number: int) -> bytes:
    """A span id."""
    return number.to_bytes(8, "big")


def span(
    number: int,
    parent: int | None = None,
    *,
    entry: bool | None = False,
    service: str = "api",
    tokens: Quantity | None = None,
    amounts: Mapping[str, Quantity | None] | None = None,
    trace: bytes = TRACE,
    ended_ns: int = NOW * SECOND,
) -> TraceSpan:
    """A span; `tokens` is its number under `TOKENS`."""
    held = dict(amounts or {})
    if tokens is not None:
        held[TOKENS] = tokens
    above = b"" if parent is None else span_id(parent)
    return TraceSpan(trace, span_id(number), above, service, entry, ended_ns, tuple(sorted(held.items())))


def request(
    number: int,
    *,
    user: str | None = "acme",
    terms: Terms = TERMS,
    keys: Sequence[str] = (TOKENS,),
    wait: float = 5,
    trace: bytes = TRACE,
    ended_ns: int = NOW * SECOND,
) -> TraceRequest:
    """A request whose quantity is to be summed; its span has to be given as well."""
    reason = Reason.NO_USER if user is None else None
    source = None if user is None else "header x-account-id"
    record = UsageRecord(trace, span_id(number), ended_ns, ended_ns, terms, user, source, None, (), reason)
    return TraceRequest(record, tuple(keys), round(wait * SECOND))


def reference_owners(spans: Iterable[TraceSpan]) -> dict[bytes, bytes | None]:
    """Whose each span is, by walking up anew from every span; None for nobody."""
    known = {one.span_id: one for one in spans}

    def enters(one: TraceSpan) -> bool:
        if one.entry is not None:
            return one.entry
        parent = known.get(one.parent_span_id)
        inner = parent is not None and parent.entry is None and parent.service == one.service and parent is not one
        return not inner

    entries = [one for one in known.values() if enters(one)]
    owners: dict[bytes, bytes | None] = {}
    for start in known.values():
        place, seen = start, set()
        while not enters(place) and place.parent_span_id in known and place.span_id not in seen:
            seen.add(place.span_id)
            place = known[place.parent_span_id]
        if place.span_id in seen:  # a circle, which is cut at its smallest id
            circle = [place.span_id]
            while known[circle[-1]].parent_span_id != place.span_id:
                circle.append(known[circle[-1]].parent_span_id)
            place = known[min(circle)]
        if enters(place):
            owners[start.span_id] = place.span_id
        elif not place.parent_span_id:
            owners[start.span_id] = None
        else:
            same = [one.span_id for one in entries if one.service == place.service]
            owners[start.span_id] = same[0] if len(same) == 1 else None
    return owners


def reference_tokens(spans: Sequence[TraceSpan], owner: bytes, keys: Iterable[str]) -> Quantity | None:
    """What a request is billed for where no link of any chain is missing."""
    owners = reference_owners(spans)
    mine = {one.span_id: one for one in spans if owners[one.span_id] == owner}
    found: list[Quantity | None] = []
    for key in keys:
        having = {one for one, held in mine.items() if key in dict(held.amounts)}
        for one in having:
            if not any(_is_above(one, other, mine) for other in having if other != one):
                found.append(dict(mine[one].amounts)[key])
    if not found or any(amount is None for amount in found):
        return None
    return sum(amount for amount in found if amount is not None)


def _is_above(upper: bytes, lower: bytes, mine: Mapping[bytes, TraceSpan]) -> bool:
    place = lower
    for _ in range(len(mine)):
        place = mine[place].parent_span_id
        if place == upper:
            return True
        if place not in mine:
            return False
    return False


def trace_batch(*things: TraceSpan | TraceRequest) -> UsageBatch:
    """A batch of spans and requests; those that do not say where their parent is are told as such, too."""
    spans = [one for one in things if isinstance(one, TraceSpan)]
    unflagged = [
        UnflaggedSpan(one.trace_id, one.span_id, one.parent_span_id, one.service, one.ended_ns)
        for one in spans
        if one.entry is None
    ]
    requests = [one for one in things if isinstance(one, TraceRequest)]
    return UsageBatch(unflagged=unflagged, trace_requests=requests, trace_spans=spans)


async def settle_traces(book: Book, now: float) -> TracesSettled:
    """Decide everything that is due; what was done in all."""
    done = await book.ledger.settle_traces(now)
    whole = done
    while done.next_due is not None and done.next_due <= now:
        done = await book.ledger.settle_traces(now)
        whole = TracesSettled(done.next_due, *(a + b for a, b in zip(whole[1:], done[1:], strict=True)))
    return whole
