"""The stream: whether a sandbox has it, what it says to what is wrong, and whether a duplicate counts."""

import time
from datetime import UTC, datetime
from typing import Any

from stage import Answer, Stage

SESSION, STREAM = "/v2/billing/meter_event_session", "/v2/billing/meter_event_stream"


async def the_stream(on: Stage) -> None:
    """From the session to the summary."""
    session = await on.call("post", SESSION, {})
    told = {name: value for name, value in session.data.items() if name != "authentication_token"}
    on.settles("stream: a session in a sandbox", session.short if session.status != 200 else told)
    if session.status != 200:
        return
    token = str(session.data["authentication_token"])
    name, meter = await on.meter("stream")
    customer = await on.customer("stream")
    first = _event(on, name, customer, "7")
    sent = await _send(on, token, [first, _event(on, name, customer, "0.5")])
    on.settles("stream: answer to a batch", f"{sent.short} {sent.data}")
    if sent.status != 200:
        return
    on.settles("stream: the same identifier again", (await _send(on, token, [first])).short)
    v1 = await on.event(name, customer, "7", identifier=first["identifier"], key=on.identifier())
    on.settles("stream: an identifier that the stream took, in v1", v1.short)
    on.settles("stream: no events", (await _send(on, token, [])).short)
    many = [_event(on, name, "cus_ufLiveNobody", "1") for _ in range(101)]
    on.settles("stream: 101 events", (await _send(on, token, many)).short)
    on.settles("stream: the key instead of a token", (await _send(on, on.settings.key, [first])).short)

    async def counted() -> bool:
        return await on.total(meter, customer) >= 7.5

    on.check(await on.until(counted), "what the stream took is counted", await on.total(meter, customer))
    on.settles("stream: total after an identifier was sent three times (7.5: once)", await on.total(meter, customer))


def _event(on: Stage, name: str, customer: str, value: str) -> dict[str, Any]:
    return {
        "event_name": name,
        "payload": {"stripe_customer_id": customer, "value": value},
        "identifier": on.identifier(),
        "timestamp": datetime.fromtimestamp(int(time.time()), UTC).isoformat().replace("+00:00", "Z"),
    }


async def _send(on: Stage, token: str, events: list[dict[str, Any]]) -> Answer:
    return await on.call("post", STREAM, {"events": events}, key=on.identifier(), base="meter_events", api_key=token)
