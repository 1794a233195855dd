"""CPU time of one v1 call with a meter event, as the `stripe` package makes it and as the exporter does.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/event_call.py

Stripe's double answers, a process of its own. Both ways take turns on the same connections, 20 calls at a time.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count

import stripe
from throughput.customers import customers
from throughput.process import python, started
from throughput.spans import EVENT_NAME

from otel_usageflow.exporters.stripe_meter.event_call import EventCall
from otel_usageflow.exporters.stripe_meter.transport import transport
from otel_usageflow.model.meter_event import MeterEvent

_LANES = 20
_CUSTOMERS = 1_000

Call = Callable[[MeterEvent], Awaitable[object]]


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=4_000, help="in each round (4,000)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    stripe.enable_telemetry = False
    ids, numbers = [identity for _, identity in customers(_CUSTOMERS)], count(1)
    async with started(python("throughput.stripe_side", str(_CUSTOMERS))) as double:
        url = await double.line()

        def client(http: stripe.HTTPClient) -> stripe.StripeClient:
            bases = dict.fromkeys(("api", "meter_events", "connect"), url)
            return stripe.StripeClient(
                "sk_test_double",
                base_addresses=bases,  # type: ignore[arg-type]
                max_network_retries=0,
                http_client=http,
            )

        def event() -> MeterEvent:
            number = next(numbers)
            name = f"uf_s{number:x}_{time.time_ns():040x}"
            return MeterEvent(number, "", EVENT_NAME, ids[number % _CUSTOMERS], "1", int(time.time()), name, name)

        async with transport([url], 10) as http:
            package, own = client(http), EventCall(http, client)

            async def by_package(sent: MeterEvent) -> None:
                await package.raw_request_async(
                    "post",
                    "/v1/billing/meter_events",
                    event_name=sent.event_name,
                    payload=_payload(sent),
                    identifier=sent.identifier,
                    timestamp=sent.timestamp,
                    idempotency_key=sent.idempotency_key,
                )

            async def by_exporter(sent: MeterEvent) -> None:
                await own.make(sent, _payload(sent), {})

            for _ in range(arguments.rounds):
                for call in (by_package, by_exporter):
                    used = await _measured(call, event, arguments.calls)
                    print(f"{call.__name__:12} {used * 1e6:4.0f} us of CPU a call", flush=True)


def _payload(event: MeterEvent) -> dict[str, str]:
    return {"stripe_customer_id": event.customer, "value": event.value}


async def _measured(call: Call, event: Callable[[], MeterEvent], calls: int) -> float:
    """CPU seconds a call."""

    async def lane() -> None:
        for _ in range(calls // _LANES):
            await call(event())

    began = time.process_time()
    await asyncio.gather(*(lane() for _ in range(_LANES)))
    return (time.process_time() - began) / (calls // _LANES * _LANES)


if __name__ == "__main__":
    asyncio.run(main())
