"""The least of OpenAI's and Anthropic's APIs that their SDKs accept: every answer uses the same tokens.

Shapes: OpenAI's API reference (chat completions, responses, embeddings) and Anthropic's (messages), as of their SDKs.
"""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

INPUT, CACHE_READ, CACHE_WRITE, OUTPUT = 1200, 900, 100, 300

_CHAT_USAGE = {
    "prompt_tokens": INPUT,
    "completion_tokens": OUTPUT,
    "total_tokens": INPUT + OUTPUT,
    "prompt_tokens_details": {"cached_tokens": CACHE_READ},
}
_RESPONSE_USAGE = {
    "input_tokens": INPUT,
    "input_tokens_details": {"cached_tokens": CACHE_READ},
    "output_tokens": OUTPUT,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": INPUT + OUTPUT,
}
# Anthropic counts what was cached apart: its input tokens are the rest.
_MESSAGE_USAGE = {
    "input_tokens": INPUT - CACHE_READ - CACHE_WRITE,
    "cache_read_input_tokens": CACHE_READ,
    "cache_creation_input_tokens": CACHE_WRITE,
    "output_tokens": OUTPUT,
}
_TEXT = {"type": "output_text", "text": "hi", "annotations": []}
_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None}


def serve() -> int:
    """Start the APIs in a thread; return their port on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a call."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("stream"):
            events = _message_events() if self.path.endswith("/messages") else _chat_events(asked)
            self._send("text/event-stream", "".join(events).encode())
        else:
            self._send("application/json", json.dumps(_answer(self.path)).encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _answer(path: str) -> dict[str, Any]:
    match path.rpartition("/")[2]:
        case "completions":
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            return _chat() | {"object": "chat.completion", "choices": [choice], "usage": _CHAT_USAGE}
        case "embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            return {
                "object": "list",
                "model": "embed",
                "data": data,
                "usage": {"prompt_tokens": 8, "total_tokens": 8},
            }
        case "responses":
            message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [_TEXT]}
            more = {"parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "status": "completed"}
            return {"id": "r", "object": "response", "created_at": 1, "model": "gpt", "output": [message], **more} | {
                "usage": _RESPONSE_USAGE
            }
        case "messages":
            content = [{"type": "text", "text": "hi"}]
            return _MESSAGE | {"content": content, "stop_reason": "end_turn", "usage": _MESSAGE_USAGE}
    raise ValueError(path)


def _chat() -> dict[str, Any]:
    return {"id": "c", "created": 1, "model": "gpt"}


def _chat_events(asked: dict[str, Any]) -> Iterator[str]:
    chunk = _chat() | {"object": "chat.completion.chunk"}
    delta = {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    yield f"data: {json.dumps(chunk | {'choices': [delta]})}\n\n"
    if (asked.get("stream_options") or {}).get("include_usage"):
        yield f"data: {json.dumps(chunk | {'choices': [], 'usage': _CHAT_USAGE})}\n\n"
    yield "data: [DONE]\n\n"


def _message_events() -> Iterator[str]:
    begun = _MESSAGE | {"content": [], "stop_reason": None, "usage": _MESSAGE_USAGE | {"output_tokens": 1}}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    for kind, more in (
        ("message_start", {"message": begun}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "hi"}}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": ended, "usage": {"output_tokens": OUTPUT}}),  # all so far, not more
        ("message_stop", {}),
    ):
        yield f"event: {kind}\ndata: {json.dumps({'type': kind} | more)}\n\n"
