"""The call that is made most, a meter event to v1: as the `stripe` package makes it, with what is the same made once.

For each call the package would build the same headers anew, look through the environment, and format five lines for
a log that nobody reads, which costs more than sending. So it is asked once for each account what it sends, and it is
given to read whatever is no plain success.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import stripe

from otel_usageflow.model.meter_event import MeterEvent

_PATH = "/v1/billing/meter_events"
_MOST = 1_000
"""Accounts whose headers are remembered."""

Answer = tuple[bytes, int, Mapping[str, str]]
"""Body, status, headers."""


class _Told(stripe.HTTPClient):
    """Gives the package an answer that is known, and keeps what it would have sent."""

    name = "aiohttp"

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer
        self.url = ""
        self.headers: Mapping[str, str] = {}
        self.body = ""

    async def request_async(self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None) -> Answer:
        """Send nothing."""
        self.url, self.headers, self.body = url, headers, post_data
        return self._answer


class EventCall:
    """Makes the call.

    Args:
        http: the way to Stripe.
        client: the package's client on any way.
    """

    def __init__(self, http: stripe.HTTPClient, client: Callable[[stripe.HTTPClient], stripe.StripeClient]) -> None:
        self._http = http
        self._client = client
        self._known: dict[tuple[tuple[str, str], ...], tuple[str, Mapping[str, str]]] = {}
        """Request options -> URL and headers."""

    async def make(
        self, event: MeterEvent, payload: Mapping[str, str], options: Mapping[str, str]
    ) -> tuple[Any, str]:
        """Make it; return what Stripe said, and the request id.

        Args:
            event: what is sent, except for its customer and value.
            payload: all of it.
            options: the request options of its account.

        Raises:
            StripeFailure: see `answers.py`.
        """
        url, headers = await self._prepared(options)
        headers = {**headers, "Idempotency-Key": event.idempotency_key}
        answer = await self._http.request_async("post", url, headers, body(event, payload))
        said, status, told = answer
        if 200 <= status < 300:
            try:
                return json.loads(said), str(told.get("Request-Id") or "")
            except ValueError:
                pass  # the package has words for that
        read = await self._client(_Told(answer)).raw_request_async("post", _PATH, **options)
        return read.data, str(read.request_id or "")

    async def _prepared(self, options: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        key = tuple(options.items())
        found = self._known.get(key)
        if found is None:
            told = _Told((b"{}", 200, {}))
            await self._client(told).raw_request_async("post", _PATH, **options)
            if len(self._known) >= _MOST:
                self._known.clear()
            found = self._known[key] = (told.url, told.headers)
        return found


def body(event: MeterEvent, payload: Mapping[str, str]) -> str:
    """The parameters as the package encodes them."""
    parameters = [
        ("event_name", event.event_name),
        *((f"payload[{key}]", value) for key, value in payload.items()),
        ("identifier", event.identifier),
        ("timestamp", event.timestamp),
    ]
    return urlencode(parameters).replace("%5B", "[").replace("%5D", "]")
