"""From an app with the SDK to Stripe's meter, with the service killed in between: every request once."""

import asyncio
from pathlib import Path

from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from processes import double, service
from sdk_apps import HEADERS, call_asgi
from sdk_collector import until

import otel_usageflow.sdk as usageflow

REQUESTS = 300
LIMITS = usageflow.Limits(batch=10, delay=0.02, first_wait=0.05, longest_wait=0.5, timeout=5.0)


async def test_every_request_is_billed_once_though_the_service_is_killed(tmp_path: Path) -> None:
    """One in a hundred is sampled, the service dies under load, and Stripe's total is that of the requests."""
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.01)), shutdown_on_exit=False)
    app = FastAPI(telemetry={"tracing": False})

    @app.post("/v1/chat")
    def chat() -> dict[str, str]:
        usageflow.add("app.tokens", 3)
        return {}

    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)

    def serve(number: int, user: str) -> None:
        for _ in range(number):
            assert call_asgi(app, "/v1/chat", "POST", headers={**HEADERS, "x-account-id": user}) == 200

    customers = ("--customer", "account_id=acme", "--customer", "account_id=globex")
    async with double("--meter", "api_request", *customers) as stripe, service(tmp_path, stripe) as running:
        usageflow.install(
            app,
            endpoint=f"http://127.0.0.1:{running.http}",
            user=usageflow.header("x-account-id"),
            attribute="http.request.header.x-account-id",  # where this service's policy looks
            limits=LIMITS,
            tracer_provider=provider,
        )
        try:
            load = asyncio.gather(*(asyncio.to_thread(serve, REQUESTS, user) for user in ("acme", "globex")))
            await asyncio.to_thread(until, lambda: usageflow.stats().sent >= 50)
            await running.kill()
            await load
            assert usageflow.stats().waiting > 0
            await running.start()
            assert await asyncio.to_thread(usageflow.flush, 30.0)
            stats = usageflow.stats()
            assert (stats.taken, stats.sent, stats.dropped, stats.rejected) == (2 * REQUESTS, 2 * REQUESTS, 0, 0)
            expected = {"acme": str(3 * REQUESTS), "globex": str(3 * REQUESTS)}
            async with asyncio.timeout(60):
                while True:
                    if await stripe.totals() == expected:
                        break
                    await asyncio.sleep(0.1)
            # It stays so: what was sent twice, because an answer was lost, was billed once.
            await running.stop()
            assert await stripe.totals() == expected
        finally:
            await asyncio.to_thread(usageflow.shutdown)
            provider.shutdown()
