"""The Stripe double with the customers of the load, as a process of its own: `stripe_side.py USERS`."""

import asyncio
import sys

from otel_usageflow.testing.stripe.double import StripeDouble
from otel_usageflow.testing.stripe.settings import RateLimits, Settings
from throughput.customers import MARK
from throughput.spans import EVENT_NAME, FIELD, user


async def main() -> None:
    """Print the URL, and serve until killed."""
    double = StripeDouble(settings=Settings(limits=RateLimits.off(), latency=0))
    double.add_meter(EVENT_NAME)
    users = int(sys.argv[1])
    double.add_customers(users, FIELD, [user(number) for number in range(1, users + 1)]).mark = MARK
    async with double:
        sys.stdout.write(f"{double.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
