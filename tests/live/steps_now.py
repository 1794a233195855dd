"""What Stripe answers at once to a meter event of v1."""

import asyncio
import time

from stage import Stage

DAY = 86_400


async def duplicates(on: Stage) -> None:
    """The heart of the matter: the same event again."""
    name, meter = await on.meter("first")
    other, _ = await on.meter("second")
    customer = await on.customer("twice")
    identifier = on.identifier()
    first = await on.event(name, customer, "3", identifier=identifier, key=f"{identifier}-a")
    on.check(first.status == 200, "a meter event is taken", first.short)
    on.settles("v1, answer to a meter event", sorted(first.data))
    again = await on.event(name, customer, "3", identifier=identifier, key=f"{identifier}-b")
    on.settles("v1, the same identifier under another idempotency key", again.short)
    on.check(
        again.status == 400 and "already exists with identifier" in again.short,
        "a second event with the same identifier is refused in the words that are relied on",
        again.short,
    )
    replayed = await on.event(name, customer, "3", identifier=identifier, key=f"{identifier}-a")
    on.settles("v1, the same idempotency key and body", f"{replayed.short} replayed={_replayed(replayed.headers)}")
    on.check(replayed.status == 200, "the same idempotency key is answered as before", replayed.short)
    mismatch = await on.event(name, customer, "4", identifier=on.identifier(), key=f"{identifier}-a")
    on.settles("v1, the same idempotency key with another body", mismatch.short)
    elsewhere = await on.event(other, customer, "1", identifier=identifier, key=f"{identifier}-c")
    on.settles("scope of an identifier: the same one on another meter", elsewhere.short)
    counted = await on.until(lambda: _is(on, meter, customer, 3))
    on.check(counted, "it is counted once, by the meter's summary", await on.total(meter, customer))


async def refusals(on: Stage) -> None:
    """What v1 says to events that cannot be counted; 200 means that it says so later, in a report."""
    name, meter = await on.meter("refusals")
    customer = await on.customer("refused")
    now = time.time()
    for what, answer in {
        "no meter of this event name": await on.event(f"uf_live_{on.mark}_none", customer),
        "no such customer": await on.event(name, "cus_ufLiveNobody"),
        "36 days old": await on.event(name, customer, timestamp=now - 36 * DAY),
        "34 days old": await on.event(name, customer, timestamp=now - 34 * DAY),
        "10 minutes ahead": await on.event(name, customer, timestamp=now + 600),
        "4 minutes ahead": await on.event(name, customer, timestamp=now + 240),
        "a value that is no number": await on.event(name, customer, "many"),
        "an empty value": await on.event(name, customer, ""),
        "a value of 16 digits": await on.event(name, customer, "1234567890123456"),
        "a negative value": await on.event(name, customer, "-1"),
        "a value of 0": await on.event(name, customer, "0"),
        "40 further keys in the payload": await on.event(name, customer, payload={f"k{n}": "x" for n in range(40)}),
        "a payload value of 101 characters": await on.event(name, customer, payload={"k": "x" * 101}),
        "an identifier of 100 characters": await on.event(name, customer, identifier=on.identifier().ljust(100, "x")),
        "an identifier of 101 characters": await on.event(name, customer, identifier=on.identifier().ljust(101, "x")),
    }.items():
        on.settles(f"v1, {what}", answer.short)
        on.check(answer.status in (200, 400, 404), f"{what}: taken or refused, nothing else", answer.short)
    await on.call("post", f"/v1/billing/meters/{meter}/deactivate")
    on.settles("v1, an inactive meter", (await on.event(name, customer)).short)


async def decimals(on: Stage) -> None:
    """Whether values may be decimal numbers, and are summed as such."""
    name, meter = await on.meter("decimals")
    customer = await on.customer("decimals")
    answers = [await on.event(name, customer, value) for value in ("0.5", "0.25", "123456789.012345")]
    on.settles("v1, decimal values", ", ".join(answer.short for answer in answers))
    if all(answer.status == 200 for answer in answers):
        counted = await on.until(lambda: _is(on, meter, customer, 123456789.762345))
        on.settles("decimal values in summaries", "summed exactly" if counted else await on.total(meter, customer))


async def limits(on: Stage) -> None:
    """What a 429 looks like: 60 reads at once, which a sandbox (25 a second) does not take."""
    answers = await asyncio.gather(
        *(on.call("get", "/v1/billing/meters", {"limit": 1}, patient=False) for _ in range(60))
    )
    refused = [answer for answer in answers if answer.status == 429]
    on.settles("60 reads at once", f"{len(refused)} refused with 429")
    if refused:
        headers = refused[0].headers
        told = {
            name: headers.get(name) for name in ("stripe-rate-limited-reason", "retry-after", "stripe-should-retry")
        }
        on.settles("headers of a 429", told)
        on.settles("body of a 429", refused[0].short)


async def _is(on: Stage, meter: str, customer: str, wanted: float) -> bool:
    return abs(await on.total(meter, customer) - wanted) < 1e-6 * max(1.0, abs(wanted))


def _replayed(headers: dict[str, str]) -> str | None:
    return headers.get("idempotent-replayed")
