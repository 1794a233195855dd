"""Export requests for the load: prebuilt spans of 830 bytes and 16 attributes, made unique when they are sent.

A pool of spans is serialized once. A batch takes the next ones of the pool and puts ids and times into them, which
costs the driver about 0.3 us a span. Field order is that of every OTLP exporter: by number.
"""

import itertools
import os
import random
import time
from typing import NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

POOL = 20_000
USERS = 100_000
SIZE = 830
"""Bytes of a span, with its frame."""
ENDPOINT = "/v1/chat/completions"
EVENT_NAME = "api_request"
FIELD = "account_id"
_ELSEWHERE = ("/v1/models", "/healthz", "/v1/files/f-81", "/static/app.js")
_ATTRIBUTES = 16
_RESOURCE = b"\x0a\x16" + b"\x0a\x14" + b"\x0a\x0cservice.name" + b"\x12\x04\x0a\x02ap"


class Frame(NamedTuple):
    """One span of the pool, without ids and times."""

    before: bytes
    """The frame's tag and length, and the tag of the trace id."""
    middle: bytes
    """Between the ids and the times: parent, name, kind."""
    after: bytes
    """Behind the times."""


class Ticket(NamedTuple):
    """A batch of the pool: which spans, with which ids, ended when. It takes far less memory than the batch."""

    start: int
    ids: bytes
    """24 bytes a span."""
    ended: int
    """Nanoseconds since 1970."""


def user(number: int) -> str:
    """The name of a user."""
    return f"acct-{number:08d}"


class Pool:
    """Spans of the mix that is measured: 70 % billable, 20 % of other endpoints, 10 % no requests.

    With `even`, billable spans have all users in turn, and not some more often than others.
    """

    def __init__(
        self,
        seed: int,
        billable: float = 0.7,
        elsewhere: float = 0.2,
        users: int = USERS,
        size: int = POOL,
        *,
        even: bool = False,
    ) -> None:
        chance = random.Random(seed)
        ranks = range(1, users + 1)
        drawn = chance.choices(ranks, cum_weights=list(itertools.accumulate(1 / rank for rank in ranks)), k=size)
        in_turn = itertools.cycle(ranks)
        self.billable = 0.0
        """How much of the pool is billable, as drawn."""
        self._frames: list[Frame] = []
        for rank in drawn:
            kind = chance.random()
            self.billable += (kind < billable) / size
            if even and kind < billable:
                rank = next(in_turn)
            path = ENDPOINT if kind < billable else chance.choice(_ELSEWHERE)
            self._frames.append(_frame(chance, user(rank), path, request=kind < billable + elsewhere))
        self._next = 0

    def batch(self, spans: int) -> bytes:
        """One `ExportTraceServiceRequest` of spans that have never been before, which end now."""
        return self.payload(self.ticket(spans))

    def ticket(self, spans: int) -> Ticket:
        """Such a batch, to be written later, and again."""
        start = self._next
        self._next = (start + spans) % (len(self._frames) - 4_096)
        return Ticket(start, os.urandom(24 * spans), time.time_ns())

    def payload(self, ticket: Ticket) -> bytes:
        """The request of a batch, the same each time."""
        start, ids, now = ticket
        spans = len(ids) // 24
        times = b"\x39" + (now - 40_000_000).to_bytes(8, "little") + b"\x41" + now.to_bytes(8, "little")
        parts: list[bytes] = []
        add = parts.append
        place = 0
        for before, middle, after in self._frames[start : start + spans]:
            add(before)
            add(ids[place : place + 16])
            add(b"\x12\x08")
            add(ids[place + 16 : place + 24])
            add(middle)
            add(times)
            add(after)
            place += 24
        body = b"".join(parts)
        scope = b"\x12" + varint(len(body)) + body
        resource_spans = _RESOURCE + scope
        return b"\x0a" + varint(len(resource_spans)) + resource_spans


def varint(number: int) -> bytes:
    """A length, as protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _frame(chance: random.Random, user: str, path: str, *, request: bool) -> Frame:
    if request:
        method = "POST" if path == ENDPOINT else "GET"
        attributes: dict[str, str | int | list[str]] = {
            "http.request.method": method,
            "url.scheme": "https",
            "url.path": path,
            "http.route": path,
            "http.response.status_code": 200,
            "server.address": "api.example.com",
            "server.port": 443,
            "client.address": "203.0.113.7",
            "network.protocol.version": "1.1",
            "user_agent.original": "python-httpx/0.27.0",
            "http.request.header.x-account-id": [user],
        }
    else:
        attributes = {"db.system": "postgresql", "db.operation.name": "SELECT", "db.collection.name": "messages"}
    kind = Span.SPAN_KIND_SERVER if request else Span.SPAN_KIND_CLIENT
    pairs = [_pair(key, value) for key, value in attributes.items()]
    pairs += [_pair(f"app.note.{number}", "x" * 16) for number in range(_ATTRIBUTES - len(pairs))]
    head = Span(parent_span_id=b"" if request else chance.randbytes(8), name=f"{kind} {path}", kind=kind)
    middle = head.SerializeToString()
    tail = Span(attributes=pairs, flags=0x300 if request else 0x100)
    missing = SIZE - 3 - 18 - 10 - 18 - len(middle) - tail.ByteSize()
    pairs[-1].value.string_value += "x" * max(missing - 1, 0)  # its length takes a second byte
    after = Span(attributes=pairs, flags=tail.flags).SerializeToString()
    length = 18 + 10 + len(middle) + 18 + len(after)
    return Frame(b"\x12" + varint(length) + b"\x0a\x10", middle, after)


def _pair(key: str, value: str | int | list[str]) -> KeyValue:
    if isinstance(value, list):
        return KeyValue(key=key, value=AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=value[0])])))
    return KeyValue(key=key, value=AnyValue(**{"int_value" if isinstance(value, int) else "string_value": value}))
