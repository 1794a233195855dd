"""Sends the traffic, byte for byte as it is written down, and checks every status."""

from http.client import HTTPConnection

from traffic import REQUESTS, Request


class WrongAnswer(Exception):
    """A server answered otherwise than the traffic says: its capture would be of something else."""


def send_all(host: str, port: int) -> None:
    """Send every request, each on a connection of its own.

    Raises:
        WrongAnswer: one status or more are not those of the traffic.
    """
    wrong = []
    for request in REQUESTS:
        status = _send(host, port, request)
        if status != request.status:
            wrong.append(f"{request.name!r}: {request.method} {request.target}: {status}, not {request.status}")
    if wrong:
        raise WrongAnswer("\n".join(wrong))


def _send(host: str, port: int, request: Request) -> int:
    connection = HTTPConnection(host, port, timeout=10)
    try:
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("host", "api.example.com")
        connection.putheader("user-agent", "captures")
        connection.putheader("connection", "close")
        for name, value in request.headers:
            connection.putheader(name, value)
        body = request.body.encode() if request.body is not None else b""
        if request.body is not None:
            connection.putheader("content-type", "application/json")
        if request.method == "POST":
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
