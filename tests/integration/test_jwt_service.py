"""Tokens in the whole service: what a client, readiness, the ledger and Stripe see while keys are missing; TLS."""

import asyncio
import datetime
import ipaddress
import os
import ssl
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from minimal import minimal
from otlp_harness import post
from span_builder import http, payload, span
from structlog.testing import capture_logs
from tokens import P256, RSA, KeyServer, bearer, jwk, key_set, sign

from otel_usageflow.component import Kind
from otel_usageflow.processors.usage_policy.key_fetch import fetch, open_session
from otel_usageflow.service.service import Service
from otel_usageflow.testing.stripe import StripeDouble


def request(number: int, token: str) -> bytes:
    """An export request of one span that ended just now."""
    end = time.time_ns()
    return payload(span(http() | bearer(token), number=number, start=end - 1000, end=end))


async def test_a_client_sends_again_until_there_are_keys(tmp_path: Path) -> None:
    """503 with a time to wait while there are none, and not ready; then 200, ready, and billed once."""
    token = sign(RSA, {"sub": "acme"}, kid="one")
    async with StripeDouble() as stripe, KeyServer(jwk(RSA, "one")) as server:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        await server.stop()
        user = f"{{jwt: {{claim: sub, verify: {{jwks_url: '{server.url}'}}}}}}"
        config = minimal(
            tmp_path,
            stripe,
            processors__usage_policy__policies=f"[{{name: chat, endpoint: POST /chat, user: {user}, "
            "customer: {metadata_field: account_id}, event_name: api_request}]",
            exporters__stripe_meter__aggregation__window="1s",
        )
        service = Service(config)
        with capture_logs() as logs:
            try:
                await service.start()
                receiver = service.components[Kind.RECEIVER, "otlp"]
                data = request(1, token)
                answer = await post(receiver, data)
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert list(service.health.problems()) == ["usage_policy"]
                await server.start()
                async with asyncio.timeout(30):
                    while (await post(receiver, data)).status != 200:  # noqa: ASYNC110  (as clients do)
                        await asyncio.sleep(0.05)
                assert not service.health.problems()
                assert (await post(receiver, data)).status == 200
                await stripe.wait_until(lambda: stripe.total("api_request", customer) == 1, timeout=15)
            finally:
                await service.stop()
        assert stripe.total("api_request", customer) == 1
        assert not [one for one in logs if one["log_level"] in ("error", "critical")]
        assert b"acme" in on_disk(tmp_path)
        assert not any(part.encode() in on_disk(tmp_path) for part in token.split("."))


def on_disk(folder: Path) -> bytes:
    """All that the service has written."""
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS for 127.0.0.1, and its certificate, which nobody trusts unless told to."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(P256.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(P256, hashes.SHA256())
    )
    file, key = folder / "cert.pem", folder / "key.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key.write_bytes(P256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, key)
    return context, file


_FETCH = """
import asyncio, sys
from otel_usageflow.processors.usage_policy.key_fetch import fetch, open_session
async def main():
    async with open_session() as session:
        sys.stdout.buffer.write(await fetch(session, sys.argv[1]))
asyncio.run(main())
"""


async def test_a_certificate_that_is_not_trusted_gives_no_keys(tmp_path: Path) -> None:
    """Keys decide who pays, so the connection is verified; a certificate of one's own is named in SSL_CERT_FILE."""
    tls, certificate = self_signed(tmp_path)
    async with KeyServer(jwk(RSA, "one"), tls=tls) as server:
        async with open_session() as session:
            with pytest.raises(ValueError, match=r"(?i)certificate"):
                await fetch(session, server.url)
        assert server.requests == []
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _FETCH, server.url),
            env=os.environ | {"SSL_CERT_FILE": str(certificate)},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert output == key_set(jwk(RSA, "one"))
