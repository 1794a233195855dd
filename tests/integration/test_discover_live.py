"""`otel-usageflow discover --live`: a real SDK sends to the real command, which counts, and keeps nothing."""

import asyncio
import json
import os
import pty
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc import ssl_channel_credentials
from listening import ANYWHERE, COMMAND, grpc_exporter, http_exporter, listening, send
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from outside import command
from tls_pair import make_pair

HEADER = "http.request.header."
REQUESTS = [
    {
        "http.request.method": "POST",
        "url.path": "/v1/chat",
        "http.response.status_code": 200,
        f"{HEADER}x-account-id": (user,),
    }
    for user in ("zebra-one", "zebra-two")
]
SENDERS = {"grpc": grpc_exporter, "http": http_exporter}


def bearer_config(directory: Path) -> Path:
    """The service's configuration with a token, and a ledger that must not come to be."""
    file = directory / "usageflow.yaml"
    file.write_text(f"""
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:0", auth: {{authenticator: bearertokenauth}}}}
      http: {{endpoint: "127.0.0.1:0", auth: {{authenticator: bearertokenauth}}}}
processors:
  usage_policy:
    policies:
      - name: chat
        endpoint: POST /v1/chat
        user: {{header: x-account-id}}
        customer: {{metadata_field: account_id}}
        event_name: api_request
exporters:
  stripe_meter: {{api_key: "${{env:NO_SUCH_KEY}}", sending_queue: {{storage: sqlite_storage}}}}
extensions:
  sqlite_storage: {{directory: "{directory / "ledger"}"}}
  bearertokenauth: {{token: "${{env:TEST_TOKEN}}"}}
service:
  extensions: [sqlite_storage, bearertokenauth]
  pipelines:
    traces: {{receivers: [otlp], processors: [usage_policy], exporters: [stripe_meter]}}
""")
    return file


def names(directory: Path) -> list[str]:
    """What lies in a directory."""
    return [each.name for each in directory.iterdir()]


@pytest.mark.parametrize("protocol", SENDERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_what_an_sdk_sends_is_told_at_the_end(protocol: str, number: int, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end it with status 0, the object and the starter file, and no value in either."""
    output = tmp_path / "starter.yaml"
    async with listening("--format", "json", "--output", output) as live:
        await asyncio.to_thread(send, SENDERS[protocol](live.address(protocol)), *REQUESTS)
        status, out, err = await live.end(number)
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert (told["spans"], told["requests"]) == (2, 2)
    assert [(one["method"], one["path"]) for one in told["endpoints"]] == [("POST", "/v1/chat")]
    assert {(one["source"], one["name"]): one["distinct"] for one in told["places"]} == {
        ("header", "x-account-id"): 2
    }
    assert "zebra" not in out + output.read_text()
    assert "header x-account-id, on 2 of 2, 2 values in all" in output.read_text()
    assert command("validate", "--config", output).status == 0
    (policy,) = yaml.safe_load(output.read_text())["processors"]["usage_policy"]["policies"]
    assert (policy["endpoint"], policy["user"]) == ("POST /v1/chat", {"header": "x-account-id"})
    assert names(tmp_path) == ["starter.yaml"]


async def test_it_ends_by_itself(tmp_path: Path) -> None:
    """`--for` ends it without a signal; the tables are those of --input, with values where they are asked for."""
    async with listening("--for", "3s", "--values", "--output", tmp_path / "starter.yaml") as live:
        await asyncio.to_thread(send, http_exporter(live.address("http")), *REQUESTS)
        status, out, err = await live.end()
    assert (status, err) == (0, "")
    for text in ("2 spans, 2 requests", "/v1/chat", "zebra-one", "x-account-id", "--input SPANS", "was not kept"):
        assert text in out


async def test_when_nothing_comes_in() -> None:
    """It says what to look at, and speaks of no input that nobody gave."""
    async with listening("--for", "50ms") as live:
        status, out, err = await live.end()
    assert (status, "There were no spans." in out) == (0, True)
    assert "does the exporter send here, over the right protocol?" in err


async def test_a_configuration_says_where_to_listen_and_who_may_send(tmp_path: Path) -> None:
    """Its receivers with their authentication are used; its ledger, its exporters and their keys are not."""
    environment = {**os.environ, "TEST_TOKEN": "sesame"}
    file = bearer_config(tmp_path)
    async with listening("--config", file, "--format", "json", where=(), environment=environment) as live:
        for protocol, sender in SENDERS.items():
            for token in ("sesame", "wrong"):
                exporter = sender(live.address(protocol), headers={"authorization": f"Bearer {token}"})
                await asyncio.to_thread(send, exporter, REQUESTS[0])
        status, out, err = await live.end(signal.SIGINT)
    assert (status, err, json.loads(out)["requests"]) == (0, "", 2)
    assert names(tmp_path) == ["usageflow.yaml"]


async def test_it_speaks_tls_where_the_configuration_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the certificate of the receivers, for both transports; without TLS nobody gets in."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)  # they would come before what the exporter is given
    pair = make_pair(tmp_path)
    tls = f'tls: {{cert_file: "{pair.cert}", key_file: "{pair.key}"}}'
    file = bearer_config(tmp_path)
    file.write_text(file.read_text().replace("auth: {authenticator: bearertokenauth}", tls))
    environment = {**os.environ, "TEST_TOKEN": "sesame"}
    async with listening("--config", file, "--format", "json", where=(), environment=environment) as live:
        ports = {protocol: live.address(protocol).rpartition(":")[2] for protocol in SENDERS}
        credentials = ssl_channel_credentials(pair.cert.read_bytes())
        over_grpc = grpc_exporter(f"localhost:{ports['grpc']}", insecure=False, credentials=credentials)
        over_http = HttpExporter(
            endpoint=f"https://localhost:{ports['http']}/v1/traces", certificate_file=str(pair.cert)
        )
        for exporter in (over_grpc, over_http):
            await asyncio.to_thread(send, exporter, REQUESTS[0])
        reader, writer = await asyncio.open_connection("localhost", int(ports["http"]))
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert not (await reader.read()).startswith(b"HTTP")
        writer.close()
        status, out, err = await live.end(signal.SIGINT)
    assert (status, err, json.loads(out)["requests"]) == (0, "", 2)


def test_a_token_that_is_missing_is_told(tmp_path: Path) -> None:
    """A stand-in for a secret lets nobody in, so it is refused at start; the keys of exporters are not asked for."""
    result = command("discover", "--live", "--config", bearer_config(tmp_path))
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("extensions::bearertokenauth")
    assert "stripe_meter" not in result.err


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_port_that_is_taken(protocol: str) -> None:
    """It says that the service seems to run there, and what to do; status 2."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        result = command("discover", "--live", "--for", "1s", *ANYWHERE, f"--{protocol}", taken)
    assert (result.status, result.out) == (2, "")
    for text in (taken, "in use", "service", "--grpc 127.0.0.1:14317", "docs/discover.md"):
        assert text in result.err
    assert "Traceback" not in result.err


def test_two_of_them_do_not_share_a_port() -> None:
    """A second listener on a gRPC port would get half of the spans: the first keeps them all."""

    async def run() -> None:
        async with listening() as live:
            grpc = live.address("grpc")
            other = await asyncio.create_subprocess_exec(
                *COMMAND, *ANYWHERE, "--grpc", grpc, "--for", "1s", stderr=asyncio.subprocess.PIPE
            )
            _, err = await other.communicate()
            assert (other.returncode, grpc in err.decode()) == (2, True)
            await asyncio.to_thread(send, grpc_exporter(grpc), *REQUESTS)
            assert (await live.end(signal.SIGINT))[0] == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--input"),
        (("--live", "--input", "x"), "not allowed with"),
        (("--input", "x", "--for", "1s"), "--for belongs to --live"),
        (("--input", "x", "--grpc", "127.0.0.1:1"), "--grpc belongs to --live"),
        (("--input", "x", "--config", "y"), "needs no configuration"),
        (("--live", "--for", "soon"), "--for"),
        (("--live", "--for", "0"), "60s"),
        (("--live", "--grpc", "4317"), "--grpc: '4317' is not an endpoint; write host:port, as in 127.0.0.1:4317"),
        (("--live", "--set", "a=b"), "--config"),
        (("--live", "--config", "y", "--http", "127.0.0.1:1"), "--set receivers::otlp::protocols::http::endpoint"),
        (("--live", "--output", "/no/such/directory/x"), "is no directory"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(arguments: tuple[str, ...], says: str) -> None:
    """One sentence that says what to do, before anything listens; status 1."""
    result = command("discover", *arguments)
    assert (result.status, result.out) == (1, "")
    assert says in result.err


async def test_a_terminal_sees_how_far_it_is() -> None:
    """On a terminal one line counts requests and endpoints; elsewhere nothing is said until the end."""
    leader, follower = pty.openpty()
    seen = b""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *ANYWHERE, stdout=asyncio.subprocess.PIPE, stderr=follower
    )
    os.close(follower)
    try:
        async with asyncio.timeout(30):
            seen = await _until(leader, seen, b"endpoints so far")
            http = seen.split(b"http ")[1].split(b";")[0].decode()
            await asyncio.to_thread(send, http_exporter(http), *REQUESTS)
            await _until(leader, seen, b"2 spans, 2 requests, 1 endpoints so far")
            process.send_signal(signal.SIGINT)
            out, _ = await process.communicate()
        assert (process.returncode, b"2 requests among" in out) == (0, True)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
        os.close(leader)


async def _until(leader: int, seen: bytes, text: bytes) -> bytes:
    while text not in seen:
        seen += await asyncio.to_thread(os.read, leader, 4096)
    return seen


async def test_what_cannot_be_read_is_refused_and_not_counted() -> None:
    """As by the service: a payload that is no OTLP gets a final status, and the rest goes on."""
    async with listening("--format", "json") as live:
        reader, writer = await asyncio.open_connection(*live.address("http").split(":"))
        body = b"\xff\xff\xff"
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        await asyncio.to_thread(send, http_exporter(live.address("http")), *REQUESTS)
        status, out, _ = await live.end(signal.SIGTERM)
    told: dict[str, Any] = json.loads(out)
    assert (status, told["spans"]) == (0, 2)
