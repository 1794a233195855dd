"""Two companies and the operator on one service: real SDKs with tokens, billed to three accounts of Stripe."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from companies import ACME, BETA, OWN
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind
from service_process import Running, running

from otel_usageflow.testing.stripe import StripeDouble

CONFIG = """\
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:0", auth: {{authenticator: ingesttokenauth}}}}
      http: {{endpoint: "127.0.0.1:0", auth: {{authenticator: ingesttokenauth}}}}
  otlp/own:
    protocols:
      http: {{endpoint: "127.0.0.1:0"}}
processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /v1/chat
        user: {{header: x-account-id}}
        customer: {{metadata_field: account_id}}
        event_name: api_request
      - name: betas
        endpoint: POST /v1/chat
        user: {{header: x-account-id}}
        customer: {{metadata_field: account_id}}
        event_name: betas_request
        account: acct_beta
exporters:
  stripe_meter:
    api_key: {key}
    endpoints: {{api: "{url}", meter_events: "{url}", connect: "{url}"}}
    aggregation: {{window: 1s, max_window: 60s}}
    sending_queue: {{storage: sqlite_storage}}
extensions:
  sqlite_storage: {{directory: "{directory}"}}
  ingesttokenauth: {{storage: sqlite_storage}}
service:
  extensions: [sqlite_storage, ingesttokenauth]
  pipelines:
    traces: {{receivers: [otlp, otlp/own], processors: [usage_policy], exporters: [stripe_meter]}}
  telemetry: {{logs: {{encoding: json}}}}
"""


@dataclass
class Site:
    """A running service, where it listens, and its configuration."""

    config: str
    stripe: StripeDouble
    service: Running
    grpc: int = 0
    http: int = 0
    own: int = 0

    async def command(self, *arguments: str) -> tuple[int, str]:
        """A command of `connect token`: its exit status and output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "otel_usageflow", "connect", "token", *arguments, "--config", self.config,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    async def token(self, account: str) -> tuple[str, str]:
        """Make a token: its id and the token."""
        status, output = await self.command("create", account, "--format", "json")
        assert status == 0
        made = json.loads(output)
        return made["id"], made["token"]

    async def until_status(self, token: str, status: int) -> None:
        """Wait until a call with this token is answered so."""
        url, headers = f"http://127.0.0.1:{self.http}/v1/traces", {"authorization": f"Bearer {token}"}
        async with asyncio.timeout(10), aiohttp.ClientSession(headers=headers) as session:
            while True:
                async with session.post(url, data=b"", headers={"content-type": "application/x-protobuf"}) as answer:
                    if answer.status == status:
                        return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def site(directory: Path, stripe: StripeDouble) -> AsyncIterator[Site]:
    """The service as a process, billing to this Stripe."""
    file = directory / "usageflow.yaml"
    file.write_text(CONFIG.format(key=stripe.api_key, url=stripe.url, directory=directory / "ledger"))
    async with running(["--config", str(file)], {"PATH": "/usr/bin:/bin"}) as service:
        made = Site(str(file), stripe, service)
        async with asyncio.timeout(30):
            started = await service.line("started", component="receivers::otlp")
            own = await service.line("started", component="receivers::otlp/own")
            await service.line("ready")
        made.grpc, made.http = (int(started[name].rpartition(":")[2]) for name in ("grpc", "http"))
        made.own = int(own["http"].rpartition(":")[2])
        yield made


def requests(number: int, user: str = "acme") -> list[ReadableSpan]:
    """Spans of requests, as an instrumentation would make them."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("tests")
    attributes = {
        "http.request.method": "POST",
        "url.path": "/v1/chat",
        "http.response.status_code": 200,
        "http.request.header.x-account-id": [user],
        # What a client might hope to choose an account with.
        "account": ACME,
        "stripe.account": ACME,
    }
    made: list[ReadableSpan] = []
    for _ in range(number):
        span = tracer.start_span("POST /v1/chat", kind=SpanKind.SERVER, attributes=attributes)
        span.end()
        assert isinstance(span, ReadableSpan)
        made.append(span)
    return made


def set_up(stripe: StripeDouble) -> dict[str, str]:
    """Meters, and a customer acme in each account; account -> its customer."""
    customers = {}
    for account in (OWN, ACME, BETA):
        if account:
            stripe.connect_account(account)
        for name in ("api_request", "betas_request"):
            stripe.add_meter(name, account=account or None)
        customers[account] = stripe.add_customer({"account_id": "acme"}, account=account or None)
    return customers


async def test_a_token_decides_who_is_billed(tmp_path: Path) -> None:
    """Over gRPC and HTTP, beside a port without tokens; made, revoked and refused while the service runs."""
    async with StripeDouble() as stripe:
        customers = set_up(stripe)
        async with site(tmp_path, stripe) as here:
            (_, acme), (beta_id, beta) = await here.token(ACME), await here.token(BETA)
            await here.until_status(beta, 200)
            over_grpc = OverGrpc(
                f"127.0.0.1:{here.grpc}", insecure=True, headers=(("authorization", f"Bearer {acme}"),)
            )
            over_http = OverHttp(
                f"http://127.0.0.1:{here.http}/v1/traces", headers={"authorization": f"Bearer {beta}"}
            )
            own = OverHttp(f"http://127.0.0.1:{here.own}/v1/traces")
            same = requests(5)
            for exporter, more in ((over_grpc, 1), (over_http, 2), (own, 3)):
                sent = await asyncio.to_thread(exporter.export, [*same, *requests(more)])
                assert sent is SpanExportResult.SUCCESS
            # acct_beta is billed by the policy that names it, for spans with its token and for the operator's own.
            expected = {
                (OWN, "api_request"): 8,
                (ACME, "api_request"): 6,
                (BETA, "api_request"): 7,
                (OWN, "betas_request"): 0,
                (ACME, "betas_request"): 0,
                (BETA, "betas_request"): 10,
            }
            async with asyncio.timeout(30):
                while True:
                    if totals(stripe, customers) == expected:
                        break
                    await asyncio.sleep(0.1)

            status, _ = await here.command("revoke", beta_id)
            assert status == 0
            await here.until_status(beta, 401)
            assert await asyncio.to_thread(over_http.export, requests(1)) is SpanExportResult.FAILURE
            stranger = OverGrpc(f"127.0.0.1:{here.grpc}", insecure=True, timeout=5)
            began = time.monotonic()
            assert await asyncio.to_thread(stranger.export, requests(1)) is SpanExportResult.FAILURE
            assert time.monotonic() - began < 4  # UNAUTHENTICATED is for good: nobody tries again
            assert await asyncio.to_thread(over_grpc.export, requests(1)) is SpanExportResult.SUCCESS
            for exporter in (over_grpc, over_http, own, stranger):
                exporter.shutdown()
            here.service.process.terminate()
            assert here.service.process.stderr is not None
            log = json.dumps(here.service.lines) + (await here.service.process.stderr.read()).decode()
            assert "account_followed" in log
            assert all(secret not in log for secret in (acme, beta))


def totals(stripe: StripeDouble, customers: Mapping[str, str]) -> dict[tuple[str, str], int]:
    """What each account has counted for its acme."""
    return {
        (account, name): int(stripe.total(name, customer, account=account or None))
        for account, customer in customers.items()
        for name in ("api_request", "betas_request")
    }
