"""What the interop tests bill: an instrumented program, its memory of what was taken, and the double's totals."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue
from processes import Double, Running, double, service

USERS = [f"user-{number}" for number in range(8)]


@asynccontextmanager
async def stripe_and_service(directory: Path) -> AsyncIterator[tuple[Double, Running]]:
    """The double with a customer for each user, and the service that sends to it."""
    customers = [argument for user in USERS for argument in ("--customer", f"account_id={user}")]
    async with (
        double("--meter", "api_request", "--no-rate-limits", *customers) as stripe,
        service(directory, stripe) as running,
    ):
        yield stripe, running


async def until_billed(stripe: Double, expected: Counter[str]) -> None:
    """Wait until the double has counted exactly this; more for anybody is an error at once."""
    billed: Counter[str] = Counter()
    try:
        async with asyncio.timeout(40):
            while billed != expected and all(billed[user] <= expected[user] for user in billed):
                billed = Counter({user: int(Decimal(total)) for user, total in (await stripe.totals()).items()})
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass  # the comparison says what is missing
    assert +billed == +expected
    assert (await stripe.ask("violations"))["count"] == 0


class Remembering(SpanExporter):
    """An exporter that passes everything on and keeps the books of what was acknowledged."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.taken: Counter[str] = Counter()
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Pass a batch on."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.lost += len(spans)
            return result
        for span in spans:
            attributes = span.attributes or {}
            if span.kind is SpanKind.SERVER:
                accounts, tokens = attributes["http.request.header.x-account-id"], attributes["app.tokens"]
                assert isinstance(accounts, tuple)
                assert isinstance(tokens, int)
                self.taken[str(accounts[0])] += tokens
        return result

    def shutdown(self) -> None:
        """The end."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return True


@dataclass
class Api:
    """An instrumented program, which sends to a Collector over gRPC."""

    port: int
    sent: int = 0
    books: Remembering = field(init=False)

    def __post_init__(self) -> None:
        self.books = Remembering(OTLPSpanExporter(endpoint=f"127.0.0.1:{self.port}", insecure=True))
        self._provider = TracerProvider(resource=Resource({"service.name": "api"}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self.books, max_export_batch_size=40))
        self.tracer = self._provider.get_tracer("interop")

    async def requests(self, count: int, *, failing: bool = False) -> None:
        """Answer so many requests, and return when their spans were exported; `failing` sets the span's status."""
        for _ in range(count):
            self.sent += 1
            user = USERS[self.sent % len(USERS)]
            attributes: dict[str, AttributeValue] = {
                "http.request.method": "POST",
                "url.path": "/v1/chat",
                "http.response.status_code": 200,
                "http.request.header.x-account-id": [user],
                "http.request.header.x-api-key": [user],
                "app.tokens": self.sent % 7 + 1,
            }
            with (
                self.tracer.start_as_current_span(
                    "POST /v1/chat", kind=SpanKind.SERVER, attributes=attributes
                ) as span,
                self.tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT),
            ):
                span.set_status(StatusCode.ERROR if failing else StatusCode.UNSET)
        assert await asyncio.to_thread(self._provider.force_flush)

    async def end(self) -> None:
        """Send the rest."""
        await asyncio.to_thread(self._provider.shutdown)


@asynccontextmanager
async def api(port: int) -> AsyncIterator[Api]:
    """An instrumented program."""
    running = Api(port)
    try:
        yield running
    finally:
        await running.end()
