"""One HTTP connection to the service, kept open; the standard library's, which no instrumentation traces."""

import contextlib
import http.client
import os
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from otel_usageflow.sdk.answer import Answer, Meaning, understood

ENDPOINT = "http://127.0.0.1:4318"
VARIABLE = "OTEL_USAGEFLOW_ENDPOINT"
_LARGEST_ANSWER = 1 << 20


class Connection:
    """Sends export requests, one after the other.

    Args:
        endpoint: `http[s]://host[:port][/path]`; without a path it is `/v1/traces`. Not given:
            `OTEL_USAGEFLOW_ENDPOINT`, then port 4318 here.
        headers: for example an `authorization` that the service's receiver asks for.
        certificate: a file of certificates to trust, in place of the system's.

    Raises:
        ValueError: no such endpoint can be.
    """

    def __init__(
        self, endpoint: str | None = None, headers: Mapping[str, str] | None = None, certificate: str | None = None
    ) -> None:
        given = endpoint or os.environ.get(VARIABLE) or ENDPOINT
        parts = urlsplit(given)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"endpoint {given!r} is no http:// or https:// URL, such as {ENDPOINT}")
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path if parts.path.strip("/") else "/v1/traces"
        self._tls = ssl.create_default_context(cafile=certificate) if parts.scheme == "https" else None
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": "otel-usageflow-sdk",
            **(headers or {}),
        }
        self._open: http.client.HTTPConnection | None = None

    def post(self, body: bytes, timeout: float) -> Answer:
        """Send a request and read the answer; whatever goes wrong on the way means: again.

        Args:
            body: the request.
            timeout: seconds, for connecting and for each wait.
        """
        reused = self._open is not None
        try:
            return self._exchange(body, timeout)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self.close()
            if not reused:
                return Answer(Meaning.AGAIN, _told(error))
        except Exception as error:  # noqa: BLE001 - a thread that dies would bill nothing any more
            self.close()
            return Answer(Meaning.AGAIN, _told(error))
        # The server had closed a connection that was idle: that is no reason to wait.
        try:
            return self._exchange(body, timeout)
        except Exception as error:  # noqa: BLE001 - as above
            self.close()
            return Answer(Meaning.AGAIN, _told(error))

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._open is not None:
            with contextlib.suppress(Exception):
                self._open.close()
        self._open = None

    def _exchange(self, body: bytes, timeout: float) -> Answer:
        if self._open is None:
            self._open = (
                http.client.HTTPConnection(self._host, self._port, timeout=timeout)
                if self._tls is None
                else http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
            )
        elif self._open.sock is not None:
            self._open.sock.settimeout(timeout)
        self._open.request("POST", self._path, body, self._headers)
        with self._open.getresponse() as response:
            told = response.read(_LARGEST_ANSWER)
            whole = response.isclosed()
            answer = understood(response.status, told, response.headers.get("retry-after"))
        if not whole or response.will_close:
            self.close()
        return answer


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
