"""Getting at keys: a key set from its address, bounded in time and size and from nowhere else, or a file."""

import asyncio
import os
import ssl

import aiohttp

from otel_usageflow.policy.jwt_keys import MAX_BYTES, key_file
from otel_usageflow.policy.jwt_ring import KeyRing

TIMEOUT = 5.0
"""Seconds for one answer, from the connection to its last byte."""


def open_session(timeout: float = TIMEOUT) -> aiohttp.ClientSession:
    """A session for `fetch`: no cookies, no proxy of the environment, no compression."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout),
        headers={
            "Accept": "application/jwk-set+json, application/json",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-cache",  # a refresh is asked for because what is known is too old
        },
        auto_decompress=False,  # what is small on the way must not grow here
        trust_env=False,
    )


async def load(ring: KeyRing, session: aiohttp.ClientSession | None) -> bytes:
    """What the place of a ring holds now.

    Raises:
        ValueError: it cannot be had; the message names the place and the reason.
    """
    if not ring.remote:
        return await asyncio.to_thread(key_file, ring.place)
    assert session is not None
    return await fetch(session, ring.place)


async def fetch(session: aiohttp.ClientSession, url: str) -> bytes:
    """What the address answers.

    Raises:
        ValueError: no answer in time, or another one than 200 with a body of some size.
    """
    try:
        async with session.get(url, allow_redirects=False) as response:
            if 300 <= response.status < 400:
                raise ValueError(f"{url} redirects ({response.status}); write the address that it leads to")
            if response.status != 200:
                raise ValueError(f"{url} answered {response.status}")
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise ValueError(f"{url} answered in a compressed form that was not asked for")
            data = bytearray()
            async for piece in response.content.iter_any():
                data += piece
                if len(data) > MAX_BYTES:
                    raise ValueError(f"{url} answered more than {MAX_BYTES} bytes, which no key set has")
            return bytes(data)
    except TimeoutError:
        raise ValueError(f"{url} did not answer in time") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ValueError(f"{url} cannot be read: {_words(error)}") from None


def _words(error: Exception) -> str:
    """The operating system's words where it has some; asyncio puts its own around the number."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = cause.errno if isinstance(cause, OSError) else None
    return os.strerror(number) if number and number > 0 and not isinstance(cause, ssl.SSLError) else str(error)
