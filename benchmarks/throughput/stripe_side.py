"""The Stripe double with the customers of the load, as a process of its own: `stripe_side.py USERS`."""

import asyncio
import sys

from otel_usageflow.testing.stripe.double import StripeDouble
from otel_usageflow.testing.stripe.settings import RateLimits, Settings
from throughput.spans import EVENT_NAME, FIELD, user


async def main() -> None:
    """Print the URL, and serve until killed."""
    double = StripeDouble(settings=Settings(limits=RateLimits.off(), latency=0))
    double.add_meter(EVENT_NAME)
    for number in range(1, int(sys.argv[1]) + 1):
        double.add_customer({FIELD: user(number)})
    async with double:
        sys.stdout.write(f"{double.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
