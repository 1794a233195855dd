"""One HTTP call to Stripe: connections, TLS and proxies are ours, and so is what counts as an answer."""

import os
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import stripe
from yarl import URL

from otel_usageflow.errors import StartError
from otel_usageflow.exporters.stripe_meter.proxies import Proxy, proxy_for

_LONGEST = 64 * 1024**2
"""Bytes of an answer. A page of a hundred customers with all the metadata there can be has 3 MB."""
_TO_CONNECT = 10.0
"""Seconds for name server, connection, proxy and TLS together; at most half of what the call may take."""


class Redirected(aiohttp.ClientError):
    """Something answered with another address. Stripe never does, and following would turn a POST into a GET."""


class Endless(aiohttp.ClientError):
    """An answer that is far longer than any of Stripe's."""


class Transport(stripe.HTTPClient):
    """What the `stripe` package calls for each request.

    A connection that was never made fails with `ClientConnectorError`, `ClientHttpProxyError` or
    `ConnectionTimeoutError`: then nothing was sent. After a request was begun, nobody knows.
    """

    name = "aiohttp"

    def __init__(self, session: aiohttp.ClientSession, proxies: Mapping[str | None, Proxy | None]) -> None:
        super().__init__()
        self._session = session
        self._proxies = proxies

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Make one attempt."""
        where = URL(url, encoded=True)
        more: dict[str, Any] = {}
        if (proxy := self._proxies.get(where.host)) is not None:
            more = {"proxy": proxy.url, "proxy_headers": dict(proxy.headers)}
            if where.scheme == "http":
                headers = {**headers, **proxy.headers}
        try:
            async with self._session.request(
                method, where, headers=headers, data=post_data, allow_redirects=False, **more
            ) as answer:
                if answer.status in (301, 302, 303, 307, 308):
                    raise Redirected(f"redirected to {answer.headers.get('Location')!r}")
                return await _whole(answer), answer.status, answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _not_through(error)

    async def close_async(self) -> None:
        """Whoever made the session closes it."""


def _not_through(error: Exception) -> NoReturn:
    failure: Any = stripe.APIConnectionError
    raise failure("No answer of Stripe.", should_retry=False) from error


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > _LONGEST:
            raise Endless(f"the answer is longer than {_LONGEST // 1024**2} MB")
    return bytes(body)


@asynccontextmanager
async def transport(hosts: Iterable[str], patience: float) -> AsyncIterator[Transport]:
    """For as long as the block lasts.

    Args:
        hosts: base URLs that will be called.
        patience: seconds that a call may take in all.

    Raises:
        StartError: the environment names a proxy or certificates that cannot be used.
    """
    proxies = {URL(url).host: proxy_for(url) for url in hosts}
    limits = aiohttp.ClientTimeout(total=patience, connect=min(_TO_CONNECT, patience / 2))
    # Each new connection asks the name server again, at most every ten seconds; idle ones are closed before Stripe
    # or a firewall in between forgets them.
    connector = aiohttp.TCPConnector(ssl=_trusted(), limit=0, keepalive_timeout=30, ttl_dns_cache=10)
    jar = aiohttp.DummyCookieJar()  # what a proxy sets would go to Stripe
    async with aiohttp.ClientSession(connector=connector, timeout=limits, cookie_jar=jar) as session:
        yield Transport(session, proxies)


def _trusted() -> ssl.SSLContext:
    """Stripe's own list of authorities, and those that the environment names, as a company's proxy needs."""
    trusted = ssl.create_default_context(cafile=stripe.ca_bundle_path)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        named = os.environ.get(variable)
        if not named:
            continue
        try:
            if variable == "SSL_CERT_FILE":
                trusted.load_verify_locations(cafile=named)
            elif Path(named).is_dir():
                trusted.load_verify_locations(capath=named)
            else:
                raise NotADirectoryError(2, "no such directory")
        except (OSError, ssl.SSLError) as error:
            why = error.strerror or str(error)
            raise StartError(
                f"{variable}={named} of the environment cannot be read: {why}; "
                "name certificates in PEM form, or unset it"
            ) from error
    return trusted
