"""The Stripe double in a process of its own, with live limits, telling every second what it has seen.

    python benchmarks/drain_double.py CUSTOMERS BEGAN

Its first line is its URL and the id of each customer as JSON; usage that ended after `BEGAN` counts as fresh.
"""

import asyncio
import json
import resource
import signal
import sys

from otel_usageflow.testing.stripe import Settings, StripeDouble


class Watch:
    """Counts what has come since the last look."""

    def __init__(self, stripe: StripeDouble, began: float) -> None:
        self._stripe = stripe
        self._began = began
        self._seen = 0
        self._looked = 0.0
        self.refused = 0
        self.calls = 0

    def look(self) -> dict[str, object]:
        """Totals since the start, and of fresh usage that came since the last look the seconds since it ended."""
        new = self._stripe.accepted[self._seen :]
        self._seen += len(new)
        looked = self._looked
        for call in reversed(self._stripe.calls):
            if call.at <= looked:
                break
            self._looked = max(self._looked, call.at)
            self.calls += "/meter_event" in call.path
            self.refused += call.status == 429
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "accepted": self._seen,
            "calls": self.calls,
            "refused": self.refused,
            "cpu": used.ru_utime + used.ru_stime,
            "violations": len(self._stripe.violations),
            "fresh": [round(e.received - e.timestamp, 2) for e in new if e.timestamp >= self._began],
        }


async def main(customers: int, began: float) -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stripe = StripeDouble("sk_live_drain", settings=Settings(keep_calls=20_000))
    stripe.add_meter("api_request")
    bulk = stripe.add_customers(customers, "account_id")
    async with stripe:
        print(json.dumps([stripe.url, [bulk.id_of(number) for number in range(customers)]]), flush=True)
        watch = Watch(stripe, began)
        while not stop.is_set():
            try:
                async with asyncio.timeout(1):
                    await stop.wait()
            except TimeoutError:
                pass
            print(json.dumps(watch.look()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
