"""HTTP content encodings: bodies are inflated up to the limit, and never a byte past it."""

import zlib
from collections.abc import Callable

from otel_usageflow.errors import InvalidData, TooLarge

_CHUNK = 64 * 1024
_MEMBERS = 4_096  # a gzip stream of very many tiny members costs far more time than its size lets expect
_GZIP, _ZLIB = zlib.MAX_WBITS | 16, zlib.MAX_WBITS


def _inflate(window_bits: int, body: bytes, limit: int) -> bytes:
    """Inflate one zlib stream, or gzip members one after the other."""
    out = bytearray()
    stream = zlib.decompressobj(window_bits)
    members = 1
    for start in range(0, len(body), _CHUNK):
        chunk = body[start : start + _CHUNK]
        while chunk:
            if stream.eof:
                if window_bits != _GZIP or members == _MEMBERS:
                    raise InvalidData("cannot decompress the body: something follows its end")
                stream = zlib.decompressobj(window_bits)
                members += 1
            try:
                out += stream.decompress(chunk, limit + 1 - len(out))
            except zlib.error as error:
                raise InvalidData(f"cannot decompress the body: {error}") from None
            if len(out) > limit:
                raise TooLarge(f"the body is larger than {limit} bytes after decompression")
            chunk = stream.unused_data if stream.eof else stream.unconsumed_tail
    if not stream.eof:
        raise InvalidData("cannot decompress the body: it is cut off")
    return bytes(out)


def _as_is(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    return body


def _gzip(body: bytes, limit: int) -> bytes:
    return _inflate(_GZIP, body, limit)


def _deflate(body: bytes, limit: int) -> bytes:
    return _inflate(_ZLIB, body, limit)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "": _as_is,
    "identity": _as_is,
    "gzip": _gzip,
    "deflate": _deflate,
    "zlib": _deflate,  # the Collector's name for what HTTP calls deflate
}


def decoder(content_encoding: str) -> Callable[[bytes, int], bytes]:
    """The function (body, limit in bytes) -> decoded body for a `Content-Encoding` header.

    The function raises `TooLarge` when the decoded body is over the limit, `InvalidData` when it is broken.

    Raises:
        InvalidData: an encoding that we do not read.
    """
    try:
        return _DECODERS[content_encoding.strip().lower()]
    except KeyError:
        raise InvalidData(f"cannot read Content-Encoding {content_encoding!r}; send gzip or deflate") from None


def is_encoded(content_encoding: str) -> bool:
    """Whether the body differs from what is on the wire."""
    return content_encoding.strip().lower() not in ("", "identity")
