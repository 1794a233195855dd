"""OTLP/HTTP: which request gets which answer.

Source: OTLP specification, "OTLP/HTTP". The bodies of errors are `google.rpc.Status` in the request's own encoding;
only where that is unknown they are plain text.
"""

import asyncio
from collections.abc import Mapping
from enum import Enum

import structlog
from aiohttp import web
from google.protobuf.message import Message

from otel_usageflow.component import Authenticator, Consumer
from otel_usageflow.errors import InvalidData, TooLarge, Unavailable
from otel_usageflow.receivers.otlp.admission import Admission, Lease
from otel_usageflow.receivers.otlp.answer import NOTHING, response
from otel_usageflow.receivers.otlp.config import Http
from otel_usageflow.receivers.otlp.cors import CorsPolicy, is_preflight
from otel_usageflow.receivers.otlp.encoding import decoder, is_encoded
from otel_usageflow.receivers.otlp.json import to_json, transcode
from otel_usageflow.receivers.otlp.status import is_expected, refusal
from otel_usageflow.receivers.otlp.unexpected import UnexpectedErrors

_LARGE_ENCODED = 16 * 1024  # bytes that may inflate a thousandfold; more is inflated in a thread
_LARGE_JSON = 256 * 1024  # bytes; more is parsed in a thread

_log = structlog.get_logger()


class Format(Enum):
    """The two encodings of a request, by content type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"

    def write(self, message: Message) -> bytes:
        """Serialize an answer."""
        return to_json(message) if self is Format.JSON else message.SerializeToString()


def format_of(content_type: str) -> Format | None:
    """The encoding that a `Content-Type` header names, whatever its parameters."""
    try:
        return Format(content_type.partition(";")[0].strip().lower())
    except ValueError:
        return None


class TraceEndpoint:
    """The handler behind an OTLP/HTTP port."""

    def __init__(
        self,
        config: Http,
        path: str,
        *,
        consume: Consumer,
        admission: Admission,
        authenticator: Authenticator | None,
    ) -> None:
        self._config = config
        self._path = path
        self._consume = consume
        self._admission = admission
        self._authenticator = authenticator
        self._unexpected = UnexpectedErrors(path)
        self._cors = None if config.cors is None else CorsPolicy(config.cors)
        # A large JSON document takes many times its size while it is parsed, and threads do not make it faster.
        self._one_document = asyncio.Lock()
        self._few_inflating = asyncio.Semaphore(2)
        self._hinted = False

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request, whatever it is."""
        try:
            answer = await self._route(request)
        except Exception as error:  # noqa: BLE001  (aiohttp would answer 500, for which clients drop their spans)
            answer = self._refused(error, format_of(request.headers.get("Content-Type", "")))
        if self._cors is not None and not is_preflight(request.method, request.headers):
            answer.headers.update(self._cors.answer(request.headers))
        if not self._config.keep_alives_enabled:
            answer.force_close()
        return answer

    async def _route(self, request: web.BaseRequest) -> web.Response:
        if request.path != self._config.traces_url_path:
            return self._not_found(request)
        if self._cors is not None and is_preflight(request.method, request.headers):
            return web.Response(status=204, headers=self._cors.preflight(request.headers))
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"}, text="only POST is allowed here\n")
        caller = None if self._authenticator is None else self._authenticator.authenticate(_headers(request))
        fmt = format_of(request.headers.get("Content-Type", ""))
        if fmt is None:
            wanted = " or ".join(each.value for each in Format)
            return web.Response(status=415, text=f"unsupported Content-Type; send {wanted}\n")
        with self._admission.lease() as lease:
            payload = await self._payload(request, fmt, lease)
            consumed = NOTHING
            if payload:
                consumed = await (self._consume(payload) if caller is None else self._consume(payload, caller))
        return web.Response(body=fmt.write(response(consumed)), content_type=fmt.value)

    async def _payload(self, request: web.BaseRequest, fmt: Format, lease: Lease) -> bytes:
        """The request as protobuf, with the size limit applied to each of its forms."""
        limit = self._config.max_request_body_size
        content_encoding = request.headers.get("Content-Encoding", "")
        decode = decoder(content_encoding)
        body = await self._read(request, limit, lease)
        if is_encoded(content_encoding) and len(body) > _LARGE_ENCODED:
            async with self._few_inflating:
                body = await asyncio.to_thread(decode, body, limit)
        else:
            body = decode(body, limit)
        lease.resize(len(body))
        if fmt is Format.PROTOBUF:
            return body
        if len(body) <= _LARGE_JSON:
            return transcode(body)
        async with self._one_document:
            return await asyncio.to_thread(transcode, body)

    async def _read(self, request: web.BaseRequest, limit: int, lease: Lease) -> bytes:
        """The body as it is on the wire; what is refused for its headers is refused before it is sent."""
        too_large = TooLarge(f"the body is larger than {limit} bytes")
        if request.content_length is not None and request.content_length > limit:
            raise too_large
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._config.read_timeout.total_seconds() or None):
                async for chunk in request.content.iter_any():
                    size += len(chunk)
                    if size > limit:
                        raise too_large
                    lease.resize(size)
                    chunks.append(chunk)
        except TimeoutError:
            raise Unavailable("the body did not arrive in time, send it again") from None
        except ConnectionError:
            raise Unavailable("the connection broke off") from None  # nobody is left to hear it
        except web.RequestPayloadError as error:
            raise InvalidData(f"cannot read the body: {error}") from None
        return b"".join(chunks)

    def _refused(self, error: Exception, fmt: Format | None) -> web.Response:
        if not is_expected(error):
            self._unexpected.report(error)
        answer = refusal(error)
        if fmt is None:
            result = web.Response(status=answer.http_status, text=f"{answer.message}\n")
        else:
            result = web.Response(status=answer.http_status, body=fmt.write(answer.status()), content_type=fmt.value)
        if (retry_after := answer.retry_after_header()) is not None:
            result.headers["Retry-After"] = retry_after
        return result

    def _not_found(self, request: web.BaseRequest) -> web.Response:
        if request.method == "POST" and request.path == "/" and not self._hinted:
            self._hinted = True
            _log.warning(
                "a client posts to / and drops its spans",
                receiver=self._path,
                remedy="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as written; add the path to it",
                path=self._config.traces_url_path,
                user_agent=request.headers.get("User-Agent", "")[:200],
            )
        return web.Response(status=404, text=f"not found; traces go to {self._config.traces_url_path}\n")


def _headers(request: web.BaseRequest) -> Mapping[str, str]:
    """Headers by lower-case name; several of one name are joined, as HTTP says."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
