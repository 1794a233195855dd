"""TLS and authentication of the otlp receiver, with real certificates and real handshakes."""

import functools
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from otlp_harness import EXPORT, PROTOBUF, FakeHealth, Sink, call, numbered, otlp, post
from tls_pair import Pair, make_pair

from otel_usageflow.component import Context
from otel_usageflow.errors import StartError
from otel_usageflow.extensions.bearertokenauth import FACTORY as BEARER
from otel_usageflow.receivers.otlp import FACTORY as OTLP

PAYLOAD = numbered(1).SerializeToString()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A self-signed certificate for localhost that also stands for a client."""
    return make_pair(tmp_path_factory.mktemp("tls"))


def tls(pair: Pair, **further: Any) -> dict[str, Any]:
    """The section `tls`."""
    return {"tls": {"cert_file": str(pair.cert), "key_file": str(pair.key), **further}}


async def export_over_tls(receiver: Any, pair: Pair, *, client: bool) -> tuple[bool, bool]:
    """Whether a request gets through over gRPC and over HTTP, with or without a client certificate."""
    ca, key = pair.cert.read_bytes(), pair.key.read_bytes()
    credentials = grpc.ssl_channel_credentials(ca, *((key, ca) if client else ()))
    context = ssl.create_default_context(cafile=str(pair.cert))
    if client:
        context.load_cert_chain(pair.cert, pair.key)
    async with grpc.aio.secure_channel(f"localhost:{receiver.grpc_address.port}", credentials) as channel:
        try:
            await channel.unary_unary(EXPORT)(PAYLOAD, timeout=10)
            over_grpc = True
        except grpc.aio.AioRpcError:
            over_grpc = False
    url = f"https://localhost:{receiver.http_address.port}/v1/traces"
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post(url, data=PAYLOAD, headers={"Content-Type": PROTOBUF}, ssl=context) as answer:
                over_http = answer.status == 200
        except aiohttp.ClientError:
            over_http = False
    return over_grpc, over_http


async def test_tls(pair: Pair) -> None:
    """With `tls`, both transports speak TLS."""
    sink = Sink()
    async with otlp(sink, grpc=tls(pair), http=tls(pair)) as receiver:
        assert await export_over_tls(receiver, pair, client=False) == (True, True)
    assert sink.span_ids() == [1, 1]


@pytest.mark.parametrize("client", [True, False])
async def test_mutual_tls(pair: Pair, client: bool) -> None:
    """With `client_ca_file`, only clients with a certificate get in."""
    section = tls(pair, client_ca_file=str(pair.cert))
    sink = Sink()
    async with otlp(sink, grpc=section, http=section) as receiver:
        assert await export_over_tls(receiver, pair, client=client) == (client, client)
    assert sink.span_ids() == ([1, 1] if client else [])


async def test_min_version_is_kept(pair: Pair) -> None:
    """`min_version: "1.3"` turns away a client that only speaks 1.2."""
    old = ssl.create_default_context(cafile=str(pair.cert))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with otlp(Sink(), http=tls(pair, min_version=1.3)) as receiver, aiohttp.ClientSession() as session:
        assert receiver.http_address is not None
        url = f"https://localhost:{receiver.http_address.port}/v1/traces"
        with pytest.raises(aiohttp.ClientError):
            await session.post(url, data=PAYLOAD, ssl=old)


def test_min_version_is_not_promised_for_grpc(pair: Pair) -> None:
    """gRPC does not let the version be set, so the key is refused rather than ignored."""
    with pytest.raises(ValueError, match="min_version"):
        OTLP.config.model_validate({"protocols": {"grpc": tls(pair, min_version="1.3")}})


@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_unusable_files_stop_the_start(pair: Pair, tmp_path: Path, transport: str) -> None:
    """A missing or broken file is named with its place in the configuration."""
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    sections = [
        tls(pair) | {"tls": {"cert_file": str(tmp_path / "none"), "key_file": str(pair.key)}},
        tls(pair) | {"tls": {"cert_file": str(broken), "key_file": str(pair.key)}},
        tls(pair, client_ca_file=str(broken)),
    ]
    for section in sections:
        with pytest.raises(StartError, match=f"receivers::otlp::protocols::{transport}::tls"):
            async with otlp(Sink(), **{transport: section}):
                pass


def bearer(**config: Any) -> Any:
    """A `bearertokenauth`."""
    return BEARER.build(BEARER.config.model_validate(config), Context("bearertokenauth", FakeHealth(), {}))


async def test_only_callers_with_the_token_get_in() -> None:
    """Without a valid token both transports answer UNAUTHENTICATED and 401, and the pipeline is not called."""
    sink = Sink()
    auth = {"auth": {"authenticator": "bearertokenauth"}}
    async with (
        bearer(token="s3cret") as extension,
        otlp(sink, grpc=auth, http=auth, extensions={"bearertokenauth": extension}) as receiver,
    ):
        right, wrong = "Bearer s3cret", "Bearer other"
        assert (await call(receiver, PAYLOAD)).code is grpc.StatusCode.UNAUTHENTICATED
        answer = await call(receiver, PAYLOAD, metadata=[("authorization", wrong)])
        assert answer.code is grpc.StatusCode.UNAUTHENTICATED
        assert "google.rpc.retryinfo-bin" not in answer.trailers
        assert (await post(receiver, PAYLOAD)).status == 401
        assert (await post(receiver, PAYLOAD, headers={"Authorization": wrong})).status == 401
        assert sink.calls == 0
        answer = await call(receiver, PAYLOAD, metadata=[("authorization", right)])
        assert answer.code is grpc.StatusCode.OK
        assert (await post(receiver, PAYLOAD, headers={"Authorization": right})).status == 200
    assert sink.span_ids() == [1, 1]


async def test_an_extension_that_does_not_authenticate_stops_the_start() -> None:
    """An `authenticator` that is none never leaves the door open."""
    for extensions in ({}, {"bearertokenauth": object()}):
        with pytest.raises(StartError, match="grpc::auth::authenticator: bearertokenauth is no authenticator"):
            async with otlp(Sink(), grpc={"auth": {"authenticator": "bearertokenauth"}}, extensions=extensions):
                pass


def test_references_are_named_with_their_path() -> None:
    """The service learns which extensions a receiver refers to, and where."""
    config = OTLP.config.model_validate(
        {"protocols": {"grpc": {"auth": {"authenticator": "a"}}, "http": {"auth": {"authenticator": "b/1"}}}}
    )
    found = {path: functools.reduce(getattr, path.split("::"), config) for path in OTLP.references}
    assert found == {
        "protocols::grpc::auth::authenticator": "a",
        "protocols::http::auth::authenticator": "b/1",
    }
