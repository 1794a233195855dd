"""The configuration of docs/collector.md as it stands: one stream for a tracing backend and for billing over TLS."""

import datetime
from pathlib import Path

import pytest
import yaml
from billed import USERS, api, until_billed
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from documents import ROOT, blocks, replaced
from foreign_programs import collector, need
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from otlp_harness import Sink, otlp
from prepare import COLLECTOR
from processes import Double, Running, double, free_port

TOKEN = "a-token-of-the-collectors"
HERE = """
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "localhost:{grpc}"}}, http: {{endpoint: "localhost:{http}"}}}}}}
processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /v1/chat
        user: {{api_key: {{header: x-api-key, hash: none}}}}
        customer: {{metadata_field: account_id}}
        event_name: api_request
        quantity: {{attribute: app.tokens}}
exporters:
  stripe_meter:
    api_key: sk_test_double
    endpoints: {{api: "{stripe}", meter_events: "{stripe}", connect: "{stripe}"}}
    aggregation: {{window: 1s}}
extensions:
  health_check: {{endpoint: "127.0.0.1:{health}"}}
"""


def document() -> str:
    """The configuration in docs/collector.md."""
    (text,) = (block.text for block in blocks(ROOT / "docs/collector.md") if block.file == "otelcol.yaml")
    return text


def test_the_document_and_the_example_say_the_same() -> None:
    """What is run here is what examples/collector holds."""
    assert yaml.safe_load(document()) == yaml.safe_load((ROOT / "examples/collector/otelcol.yaml").read_text())


def certificate(folder: Path) -> Path:
    """A certificate for localhost that is its own authority, where collector_config/production.yaml looks for it."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "tls.key").write_bytes(pem)
    return folder / "tls.crt"


async def production(directory: Path, stripe: Double, monkeypatch: pytest.MonkeyPatch) -> Running:
    """The service with collector_config/production.yaml, on ports of this machine and with the double."""
    (directory / "tokens").write_text(f"{TOKEN}\n")
    for name, path in (("TLS_DIR", "tls"), ("TOKENS", "tokens"), ("DATA", "ledger")):
        monkeypatch.setenv(f"USAGEFLOW_{name}", str(directory / path))
    ports = {"grpc": free_port(), "http": free_port(), "health": free_port()}
    (directory / "here.yaml").write_text(HERE.format(stripe=stripe.url, **ports))
    running = Running(ROOT / "collector_config/production.yaml", **ports)
    await running.start("--config", str(directory / "here.yaml"))
    return running


async def test_one_stream_feeds_tracing_and_billing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is billed; the tracing backend gets the failed ones, whole, and never a key."""
    need(COLLECTOR)
    authority = certificate(tmp_path / "tls")
    customers = [argument for user in USERS for argument in ("--customer", f"account_id={user}")]
    tracing = Sink()
    async with double("--meter", "api_request", *customers) as stripe, otlp(tracing) as backend:
        running = await production(tmp_path, stripe, monkeypatch)
        try:
            listen, other = free_port(), free_port()
            text = replaced(
                document(),
                {
                    "0.0.0.0:4317": f"127.0.0.1:{listen}",
                    "0.0.0.0:4318": f"127.0.0.1:{other}",
                    "/var/lib/otelcol/queue": str(tmp_path / "queue"),
                    "/run/secrets/billing-token": str(tmp_path / "tokens"),
                    "/etc/tls/ca.pem": str(authority),
                    "tempo:4317": str(backend.grpc_address),
                    "billing:4317": f"localhost:{running.grpc}",
                },
            )
            async with collector(tmp_path, text, listen, other) as front:
                async with api(listen) as program:
                    await program.requests(100)
                    await program.requests(10, failing=True)
                await until_billed(stripe, program.books.taken)
                await front.stop()  # what tail sampling still waits for is decided and sent
        finally:
            await running.stop()
    assert statuses(tracing) == {Status.STATUS_CODE_ERROR}
    assert len(tracing.span_ids()) == 2 * 10
    assert not [payload for payload in tracing.payloads if b"x-api-key" in payload]


def statuses(sink: Sink) -> set[int]:
    """The statuses of the SERVER spans that arrived."""
    return {
        span.status.code
        for payload in sink.payloads
        for resource in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.kind == span.SPAN_KIND_SERVER
    }
