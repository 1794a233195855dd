"""The extension `admin` over real HTTP."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from otlp_harness import FakeHealth

from otel_usageflow.component import Context
from otel_usageflow.errors import CannotListen, StartError
from otel_usageflow.extensions.admin import FACTORY, Admin


@asynccontextmanager
async def running(**config: Any) -> AsyncIterator[Admin]:
    """The extension on a free port."""
    parsed = FACTORY.config.model_validate({"endpoint": "127.0.0.1:0"} | config)
    async with FACTORY.build(parsed, Context("admin", FakeHealth(), {})) as extension:
        yield extension


async def ask(extension: Admin, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of one answer."""
    url = f"http://127.0.0.1:{extension.address.port}{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as answer:
        return answer.status, await answer.text(), {str(name): value for name, value in answer.headers.items()}


async def hello(request: web.BaseRequest) -> web.StreamResponse:
    """A page that says what it was sent."""
    return web.Response(text=f"hello {(await request.read()).decode()}")


async def test_pages_are_served_and_listed() -> None:
    """A mounted page answers to its method alone, `/` lists all, anything else is not found."""
    async with running() as admin:
        admin.mount("POST", "/page", hello, "says hello")
        assert (await ask(admin, "/page", "POST"))[:2] == (200, "hello ")
        assert (await ask(admin, "/page", "HEAD"))[0] == 405
        status, _, headers = await ask(admin, "/page")
        assert (status, headers["Allow"]) == (405, "POST")
        assert "POST /page  says hello" in (await ask(admin, "/"))[1]
        assert (await ask(admin, "/", "POST"))[0] == 405
        assert (await ask(admin, "/other"))[0] == 404


async def test_answers_are_neither_kept_nor_framed() -> None:
    """Every answer forbids caching, framing and telling its address to the next site."""
    async with running() as admin:
        admin.mount("GET", "/page", hello, "says hello")
        for path in ("/", "/page", "/none"):
            headers = (await ask(admin, path))[2]
            assert headers["Cache-Control"] == "no-store"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["X-Frame-Options"] == "DENY"
            assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("LOCALHOST", 200),
        ("[::1]:9", 200),
        ("127.8.9.1", 200),
        ("billing.internal:443", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example", 421),
        ("localhost@attacker.example", 421),
        ("", 421),
        ("[::1", 421),
    ],
)
async def test_a_foreign_name_reaches_no_page_of_this_machine(host: str, status: int) -> None:
    """Pages answer to loopback names and those that are configured; a name that was pointed here is refused."""
    async with running(hosts=["Billing.internal"]) as admin:
        admin.mount("GET", "/page", hello, "says hello")
        for path in ("/page", "/"):
            assert (await ask(admin, path, Host=host))[0] == status
        assert (await ask(admin, "/none", Host=host))[0] == (404 if status == 200 else 421)


async def test_what_a_proxy_passes_on_reaches_only_public_pages() -> None:
    """A public page answers under every name; the others do not answer through a proxy that says it is one."""
    async with running() as admin:
        admin.mount("GET", "/page", hello, "says hello")
        admin.mount("GET", "/public", hello, "says hello to all", public=True)
        assert (await ask(admin, "/page", **{"X-Forwarded-For": "192.0.2.1"}))[0] == 421
        assert (await ask(admin, "/public", Host="pay.example", **{"X-Forwarded-For": "192.0.2.1"}))[0] == 200


@pytest.mark.parametrize("endpoint", ["0.0.0.0:0", ":0"])
async def test_beyond_loopback_only_public_pages(endpoint: str) -> None:
    """A listener that other machines reach refuses pages that are not for them, and lists nothing."""
    async with running(endpoint=endpoint) as admin:
        with pytest.raises(StartError, match=r"extensions::admin::endpoint: /page .* must not be reachable"):
            admin.mount("GET", "/page", hello, "says hello")
        admin.mount("GET", "/public", hello, "says hello to all", public=True)
        assert (await ask(admin, "/public"))[0] == 200
        assert (await ask(admin, "/"))[:2] == (404, "not found\n")


async def test_a_path_is_mounted_once() -> None:
    """Two components that want one path are told so; `/` is the list's."""
    async with running() as admin:
        admin.mount("GET", "/page", hello, "says hello")
        admin.mount("POST", "/page", hello, "takes it")
        for method, path in (("GET", "/page"), ("GET", "/")):
            with pytest.raises(StartError, match="mounted already"):
                admin.mount(method, path, hello, "again")


async def test_a_page_that_fails_says_nothing_to_strangers() -> None:
    """An error in a page is a 500 without details, and the listener goes on."""

    async def broken(_request: web.BaseRequest) -> web.StreamResponse:
        raise RuntimeError("secret")

    async with running() as admin:
        admin.mount("GET", "/broken", broken, "fails", public=True)
        admin.mount("POST", "/page", hello, "takes it", public=True)
        status, body, _ = await ask(admin, "/broken")
        assert status == 500
        assert "secret" not in body
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{admin.address}/page", data=io.BytesIO(b"x" * 2_000_000)) as answer,
        ):
            assert answer.status == 413


async def test_a_crowd_does_not_take_all_files() -> None:
    """Of connections that say nothing those beyond a number are cut off; when some are gone, others are answered."""

    async def is_cut_off(reader: asyncio.StreamReader) -> bool:
        try:
            async with asyncio.timeout(2):
                return await reader.read() == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    async with running() as extension:
        crowd = [await asyncio.open_connection("127.0.0.1", extension.address.port) for _ in range(300)]
        assert sum(await asyncio.gather(*(is_cut_off(reader) for reader, _ in crowd))) == 44
        for _, writer in crowd:
            writer.close()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert (await ask(extension, "/"))[0] == 200
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)


async def test_an_occupied_port_stops_the_admin() -> None:
    """The error names the place in the configuration and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        endpoint = f"127.0.0.1:{occupied.getsockname()[1]}"
        with pytest.raises(CannotListen, match=r"extensions::admin::endpoint: .*Address already in use"):
            async with running(endpoint=endpoint):
                pass


async def test_a_certificate_that_cannot_be_used_stops_the_start() -> None:
    """The error names the files."""
    with pytest.raises(StartError, match=r"extensions::admin::tls: cannot use cert_file /none"):
        async with running(tls={"cert_file": "/none", "key_file": "/none"}):
            pass


@pytest.mark.parametrize("host", ["https://x", "a b", ""])
def test_hosts_are_names(host: str) -> None:
    """What is no name is an error of the configuration."""
    with pytest.raises(ValueError, match="host name"):
        FACTORY.config.model_validate({"hosts": [host]})
