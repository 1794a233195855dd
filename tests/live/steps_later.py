"""What Stripe does in its own time: cancelling, summaries, and reports of events that it took and did not count."""

import time
from datetime import UTC, datetime
from typing import Any

from stage import Stage

REPORTS = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")


async def cancellation(on: Stage) -> None:
    """An event that is taken back counts no more."""
    name, meter = await on.meter("cancel")
    customer = await on.customer("cancel")
    identifier = on.identifier()
    await on.event(name, customer, "5", identifier=identifier)
    kept = await on.event(name, customer, "2")
    on.check(kept.status == 200, "an event that stays is taken", kept.short)
    answer = await _cancel(on, name, identifier)
    on.settles("cancelling: answer", f"{answer.short} status={answer.data.get('status')}")
    on.check(answer.status == 200, "an event can be taken back", answer.short)
    on.settles("cancelling the same once more", (await _cancel(on, name, identifier)).short)
    on.settles("cancelling what there never was", (await _cancel(on, name, on.identifier())).short)
    on.settles(
        "the identifier of a cancelled event, used again",
        (await on.event(name, customer, "5", identifier=identifier, key=on.identifier())).short,
    )
    began = time.monotonic()

    async def only_two() -> bool:
        return await on.total(meter, customer) == 2

    gone = await on.until(only_two)
    on.settles(
        "cancelled events in summaries", f"gone after {time.monotonic() - began:.0f} s" if gone else "still counted"
    )


async def _cancel(on: Stage, name: str, identifier: str) -> Any:
    params = {"event_name": name, "type": "cancel", "cancel": {"identifier": identifier}}
    return await on.call("post", "/v1/billing/meter_event_adjustments", params, key=on.identifier())


async def summaries(on: Stage) -> None:
    """How late they are, how they are ordered, and where they end."""
    name, meter = await on.meter("summaries")
    customer = await on.customer("summaries")
    minute = int(time.time()) // 60 * 60 - 300
    await on.event(name, customer, "1", timestamp=minute)
    await on.event(name, customer, "10", timestamp=minute + 59)
    await on.event(name, customer, "100", timestamp=minute + 60)
    began = time.monotonic()

    async def complete() -> bool:
        return await on.total(meter, customer) == 111

    shown = await on.until(complete)
    on.check(shown, "summaries show what was sent", await on.total(meter, customer))
    on.settles("delay of summaries", f"{time.monotonic() - began:.0f} s")
    path = f"/v1/billing/meters/{meter}/event_summaries"

    async def of(start: int, end: int, **more: object) -> Any:
        return await on.call("get", path, {"customer": customer, "start_time": start, "end_time": end, **more})

    one = await of(minute, minute + 60)
    value = sum(float(item["aggregated_value"]) for item in one.data.get("data", ()))
    on.settles("end_time of summaries", "exclusive" if value == 11 else f"a minute holds {value}, 11 was sent in it")
    on.check(value == 11, "a minute's summary is of that minute alone", value)
    on.settles("summaries, bounds that are no minutes", (await of(minute + 1, minute + 61)).short)
    hour = int(time.time()) // 3600 * 3600
    hours = await of(hour - 7200, hour + 3600, value_grouping_window="hour")
    starts = [item["start_time"] for item in hours.data.get("data", ())]
    on.settles("order of summaries by hour", "newest first" if starts == sorted(starts, reverse=True) else starts)
    nobody = await on.call(
        "get", path, {"customer": "cus_ufLiveNobody", "start_time": minute, "end_time": minute + 60}
    )
    on.settles(
        "summaries of a customer that there is not", f"{nobody.short} items={len(nobody.data.get('data', ()))}"
    )


async def reports(on: Stage) -> None:
    """An event of a customer that there is not: refused at once, or in a report that names it."""
    name, meter = await on.meter("reports")
    identifier = on.identifier()
    since = datetime.fromtimestamp(time.time() - 60, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    answer = await on.event(name, "cus_ufLiveNobody", identifier=identifier)
    if answer.status != 200:
        on.settles("unknown customers", f"refused at once: {answer.short}")
        return
    began = time.monotonic()

    async def report() -> Any:
        listed = await on.call(
            "get", "/v2/core/events", {"types": list(REPORTS), "created": {"gte": since}, "limit": 20}
        )
        on.check(
            listed.status == 200, "/v2/core/events can be listed", listed.short
        ) if listed.status != 200 else None
        return next(
            (one for one in listed.data.get("data", ()) if (one.get("related_object") or {}).get("id") == meter), None
        )

    found = await on.until(report)
    on.check(found, "what was taken and not counted is reported", "no report in time")
    if not found:
        return
    on.settles("unknown customers", f"taken, and reported {time.monotonic() - began:.0f} s later")
    on.settles("the list of /v2/core/events has `data`", found.get("data") is not None)
    whole = await on.call("get", f"/v2/core/events/{found['id']}")
    errors = ((whole.data.get("data") or {}).get("reason") or {}).get("error_types") or [{}]
    samples = errors[0].get("sample_errors") or [{}]
    on.settles("code of the report", errors[0].get("code"))
    on.settles("how a sample names its request", samples[0].get("request"))
    on.check(identifier in str(samples), "a sample names the event's idempotency key", samples)
    again = await on.event(name, await on.customer("reports"), identifier=identifier, key=on.identifier())
    on.settles("the identifier of an event that was rejected later, used again", again.short)
