"""What stands in the way of a call to Stripe, in words for the person who has to mend it. Pure.

The `stripe` package tells of a failed connection in one class; what happened is in the error behind it. Whether
anything was sent matters as much as the words: a connection that was never made cannot have been processed.
"""

import errno
import socket
import ssl
from typing import NamedTuple

import aiohttp
import stripe

from otel_usageflow.exporters.stripe_meter.transport import Endless, Redirected

ENDPOINTS = "is exporters::stripe_meter::endpoints right, and is there a proxy in between?"
_FIREWALL = "let this machine reach it on that port: firewall, routes, HTTPS_PROXY"
_OWN_AUTHORITY = (
    "if a proxy of your company reads the traffic, give its authority in PEM form: SSL_CERT_FILE=/path/to/ca.pem in "
    "the environment of the service; otherwise do not trust it"
)
_LONGEST = 160

_CERTIFICATES = {
    9: ("is not valid yet", "is this machine's clock behind? Let it keep its time by NTP"),
    10: ("has expired", "is this machine's clock ahead? If not, whoever runs the host or the proxy must renew it"),
    18: ("is signed by itself", _OWN_AUTHORITY),
    19: ("is signed by an authority that is not known here", _OWN_AUTHORITY),
    20: ("is signed by an authority that is not known here", _OWN_AUTHORITY),
    21: ("is signed by an authority that is not known here", _OWN_AUTHORITY),
    62: (
        "is for another host",
        "does the name lead to the right address, and is HTTPS_PROXY right? Something else answers in its place",
    ),
    64: ("is for another address", "write the name of the host into exporters::stripe_meter::endpoints"),
}
"""OpenSSL's verify code -> what is wrong, what to do."""

_UNREACHABLE = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.ENETUNREACH: "there is no route to its network",
    errno.EHOSTUNREACH: "there is no route to it",
    errno.ECONNRESET: "the connection is reset at once",
    errno.ETIMEDOUT: "no answer to the connection",
}


class Trouble(NamedTuple):
    """What happened, and what to do."""

    what: str
    remedy: str
    never_sent: bool = False
    """Nothing of the request has left this machine, or not further than to a proxy that refused."""

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


def trouble(error: BaseException) -> Trouble:
    """What became of a call that got no answer of Stripe's."""
    if isinstance(error, stripe.APIConnectionError):
        error = error.__cause__ or error
    for look in (_on_the_way_to_a_proxy, _name, _certificate, _connecting, _waiting):
        if (found := look(error)) is not None:
            return found
    return _other(error)


def foreign_answer(status: int, body: object) -> Trouble:
    """Something answered, and not in the form of Stripe's errors."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    text = " ".join(text.split())
    if not text:
        said = "nothing"
    elif status < 300 and text[0] == "{":  # it may hold the token that was asked for
        said = f"{len(text)} characters that are not whole JSON"
    elif text[0] == "<":
        said = f"a web page: {_short(text)}"
    else:
        said = _short(text)
    return Trouble(f"status {status}, and what answered is not Stripe's API but says {said}", ENDPOINTS)


def _on_the_way_to_a_proxy(error: BaseException) -> Trouble | None:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        if error.status == 407:
            return Trouble(
                "the proxy asks who we are (407)",
                "write user and password into HTTPS_PROXY=http://user:password@host:port, with %40 for an @ in them",
                never_sent=True,
            )
        return Trouble(
            f"the proxy does not let us through ({error.status} {_short(error.message)})",
            "have api.stripe.com:443 (for the stream meter-events.stripe.com:443, too) allowed there, or lead past "
            "the proxy with NO_PROXY",
            never_sent=True,
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Trouble(
            f"the proxy {error.host}:{error.port} cannot be reached: {_reason(error.os_error)}",
            "is HTTPS_PROXY right, and does the proxy run?",
            never_sent=True,
        )
    return None


def _name(error: BaseException) -> Trouble | None:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if not isinstance(error, aiohttp.ClientConnectorDNSError) and not isinstance(cause, socket.gaierror):
        return None
    host = error.host if isinstance(error, aiohttp.ClientConnectorError) else "the host"
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN:
        what = f"the name servers of this machine do not answer, so that {host} is not found"
    else:
        what = f"no name server knows {host}"
    remedy = "look at /etc/resolv.conf and the network; where only a proxy leads out, set HTTPS_PROXY"
    return Trouble(what, remedy, never_sent=True)


def _certificate(error: BaseException) -> Trouble | None:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        code = getattr(cause, "verify_code", 0)
        said = getattr(cause, "verify_message", "") or str(cause)
        what, remedy = _CERTIFICATES.get(code, (f"cannot be trusted: {said}", _OWN_AUTHORITY))
        return Trouble(f"the certificate of {error.host}:{error.port} {what}", remedy, never_sent=True)
    if isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError):
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        host = f"{error.host}:{error.port}" if isinstance(error, aiohttp.ClientConnectorError) else "the host"
        if getattr(cause, "reason", "") in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return Trouble(
                f"{host} does not speak TLS", f"something answers in Stripe's place: {ENDPOINTS}", never_sent=True
            )
        said = getattr(cause, "reason", None) or str(cause)
        return Trouble(
            f"no TLS connection to {host}: {said}",
            f"something between here and Stripe breaks it off: firewall, HTTPS_PROXY; {ENDPOINTS}",
            never_sent=True,
        )
    return None


def _connecting(error: BaseException) -> Trouble | None:
    if isinstance(error, aiohttp.ClientConnectorError):
        what = f"{error.host}:{error.port} cannot be reached: {_reason(error.os_error)}"
        return Trouble(what, _FIREWALL, never_sent=True)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Trouble("no connection in time: nobody answers, at Stripe or at the proxy", _FIREWALL, never_sent=True)
    return None


def _waiting(error: BaseException) -> Trouble | None:
    if isinstance(error, TimeoutError):
        return Trouble(
            "no answer within exporters::stripe_meter::timeout",
            "nothing if it passes; otherwise look at what lies between here and Stripe",
        )
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return Trouble(
            "the connection broke before the answer came", "nothing if it passes; otherwise look at the network"
        )
    if isinstance(error, aiohttp.ClientPayloadError):
        return Trouble(
            "the answer broke off or cannot be unpacked",
            "nothing if it passes; otherwise look at the proxy in between",
        )
    return None


def _other(error: BaseException) -> Trouble:
    if isinstance(error, Redirected):
        return Trouble(_named(error), "Stripe never redirects: " + ENDPOINTS)
    if isinstance(error, Endless):
        return Trouble(_named(error), ENDPOINTS)
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return Trouble("the address is not one that can be called", ENDPOINTS, never_sent=True)
    if isinstance(error, aiohttp.ClientResponseError):
        return Trouble(f"what answered does not speak HTTP as it should: {_short(error.message)}", ENDPOINTS)
    return Trouble(_named(error), "")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no TLS ({error.reason})"
    if isinstance(error, socket.gaierror):
        return "no name server knows it"
    number = error.errno or 0
    return _UNREACHABLE.get(number) or error.strerror or type(error).__name__


def _named(error: BaseException) -> str:
    text = _short(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
