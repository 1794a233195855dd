"""What holds for every meter event: the call that is made for it is the one that the `stripe` package would make."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import stripe
from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.exporters.stripe_meter.event_call import EventCall
from otel_usageflow.model.meter_event import MeterEvent

_texts = st.text(st.characters(codec="utf-8"), max_size=20)
_keys = st.text(st.characters(codec="utf-8", exclude_characters="[]"), min_size=1, max_size=8)
_options = st.sampled_from([{}, {"stripe_account": "acct_1"}, {"api_key": "sk_test_other"}])


class _Noted(stripe.HTTPClient):
    """Answers everything with a success, and keeps what was sent."""

    name = "aiohttp"

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, str, Mapping[str, str], Any]] = []

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Keep it."""
        self.sent.append((method, url, dict(headers), post_data))
        return json.dumps({"object": "billing.meter_event"}).encode(), 200, {"Request-Id": "req_1"}


def _client(http: stripe.HTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_own", max_network_retries=0, http_client=http)


@given(_texts, st.dictionaries(_keys, _texts, max_size=3), _texts, st.integers(0, 2**33), _options)
def test_the_call_is_the_packages_own(
    name: str, payload: dict[str, str], identifier: str, timestamp: int, options: dict[str, str]
) -> None:
    """Method, URL, headers and body are those that the package sends, with the event's own idempotency key."""
    stripe.enable_telemetry = False
    event = MeterEvent(1, "", name, "cus_1", "1", timestamp, identifier, f"key-{timestamp}")
    theirs, ours = _Noted(), _Noted()

    async def both() -> tuple[Any, str]:
        await _client(theirs).raw_request_async(
            "post",
            "/v1/billing/meter_events",
            event_name=name,
            payload=payload,
            identifier=identifier,
            timestamp=timestamp,
            idempotency_key=event.idempotency_key,
            **options,
        )
        call = EventCall(ours, _client)
        await call.make(event, payload, options)
        return await call.make(event, payload, options)

    said, request_id = asyncio.run(both())
    assert (said["object"], request_id) == ("billing.meter_event", "req_1")
    assert [ours.sent[0], ours.sent[1]] == [theirs.sent[0]] * 2
