"""A small API, billed from within: three lines, and no other OpenTelemetry."""

from fastapi import FastAPI

import otel_usageflow.sdk as usageflow

app = FastAPI()


@app.post("/v1/chat/completions")
def chat() -> dict[str, str]:
    """Answer everything, and say what it took."""
    usageflow.add("app.tokens", 42)
    return {"answer": "42"}


@app.get("/billing")
def billing() -> dict[str, int]:
    """How the billing is doing, for a health check or a metric."""
    usageflow.flush()
    stats = usageflow.stats()
    return {"sent": stats.sent, "waiting": stats.waiting, "dropped": stats.dropped}


usageflow.install(
    app,
    endpoint="http://127.0.0.1:4318",
    user=usageflow.api_key(header="authorization", scheme="bearer"),
)
