"""Spans that are well-formed and absurd, chosen by the bytes of a fuzzer: it learns which choice leads where."""

import struct
from collections.abc import Iterator
from typing import Final

from otel_usageflow.proto.spans.v1.spans_pb2 import Request

_KEYS: Final = [
    *("http.request.method", "http.method", "url.path", "http.target", "http.url", "url.full", "http.route"),
    *("url.query", "http.response.status_code", "http.status_code", "server.address", "http.host", "net.host.name"),
    *("rpc.system", "rpc.system.name", "rpc.service", "rpc.method", "rpc.grpc.status_code", "enduser.id", "n", "m"),
    *("rpc.response.status_code", "graphql.operation.type", "graphql.operation.name", "http.request.body.content"),
    *("tls.client.subject", "tls.client.hash.sha256", "guid:x-request-id", "http.response.body.size"),
    *("gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.provider.name"),
    *("gen_ai.system", "gen_ai.usage.prompt_tokens", "llm.usage.total_tokens", "llm.token_count.prompt"),
    *(
        f"http.request.header.{name}"
        for name in (
            *("x-account-id", "x_account_id", "authorization", "x-api-key", "x-token", "cookie", "baggage", "x-org"),
            *("x-forwarded-client-cert", "x-request-id"),
        )
    ),
]
_VALUES: Final = [
    *(
        "GET",
        "POST",
        "_OTHER",
        "/a/b/c",
        "/",
        "a=1&account=x&key=%zz",
        "Bearer a.b.c",
        "Basic YTpi",
        "account=x;session=y",
    ),
    *(
        "account.id=a%20b;p,x=y",
        'Hash=a;URI="b",URI=c',
        "CN=a,O=b",
        '{"user": {"ids": [1]}}',
        "-",
        "[REDACTED]",
        "grpc",
    ),
    *("shop.Orders", "shop.Orders/Get", "query", "Prices", "http://a.example:80/a?account=b#c", "1.5", "1e400", "5"),
]
_STATES: Final = [
    "",
    "ot=th:8",
    "ot=th:0",
    "ot=th:fd70a3d70a3d71;rv:ffffffffffffff",
    "a=b,ot=p:3;th:zz",
    "ot=th:" + "f" * 20,
]


class _Chooser:
    """Takes choices from bytes; when they are at their end, every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def number(self, below: int) -> int:
        return (self.take(1) or b"\0")[0] % below

    def wide(self) -> int:
        return int.from_bytes(self.take(8).ljust(8, b"\0"))


def chosen_requests(data: bytes) -> Iterator[bytes]:
    """Up to six export requests, of which the bytes choose everything."""
    choose = _Chooser(data)
    for _ in range(6):
        if not choose:
            return
        yield _request(choose)


def _request(choose: _Chooser) -> bytes:
    request = Request()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(_attribute(choose, "service.name") for _ in range(choose.number(2)))
    resource.resource.attributes.extend(_attribute(choose, "tenant") for _ in range(choose.number(2)))
    scope = resource.scope_spans.add()
    scope.scope.name = (b"", b"s", b"left-out", b"opentelemetry.instrumentation.asgi", b"\xff")[choose.number(5)]
    for _ in range(1 + choose.number(3)):
        span = scope.spans.add()
        span.trace_id = bytes(15) + bytes([choose.number(4)])
        span.span_id = bytes(7) + bytes([choose.number(6)])
        span.parent_span_id = (b"", bytes(7) + bytes([choose.number(6)]), bytes(8), b"x")[choose.number(4)]
        span.kind = choose.number(4)
        span.flags = (0, 0x100, 0x300, 0xFFFFFFFF)[choose.number(4)]
        span.start_time_unix_nano, span.end_time_unix_nano = choose.wide(), choose.wide()
        span.trace_state = _STATES[choose.number(len(_STATES))].encode()
        span.dropped_attributes_count = choose.number(3)
        span.attributes.extend(_attribute(choose, _KEYS[choose.number(len(_KEYS))]) for _ in range(choose.number(10)))
    return request.SerializeToString()


def _attribute(choose: _Chooser, key: str) -> bytes:
    """A serialized `KeyValue`."""
    value = _value(choose, 0)
    return _field(1, key.encode()) + _field(2, value)


def _value(choose: _Chooser, depth: int) -> bytes:
    """A serialized `AnyValue`."""
    kind = choose.number(9)
    if kind <= 2:
        return _field(1, _VALUES[choose.number(len(_VALUES))].encode())
    if kind == 3:
        return _field(1, choose.take(choose.number(40)))
    if kind == 4:
        return b"\x10" + _varint(choose.number(2))
    if kind == 5:
        return b"\x18" + _varint((choose.number(256), choose.wide(), 2**64 - 1 - choose.number(9))[choose.number(3)])
    if kind == 6:
        return b"\x21" + struct.pack("<Q", choose.wide())
    if kind == 7 and depth < 3:
        members = b"".join(_field(1, _value(choose, depth + 1)) for _ in range(choose.number(4)))
        return _field(5, members)
    if kind == 8 and depth < 3:
        members = b"".join(_field(1, _field(1, b"k") + _field(2, _value(choose, depth + 1))) for _ in range(2))
        return _field(6, members)
    return _field(7, choose.take(choose.number(20)))


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])
