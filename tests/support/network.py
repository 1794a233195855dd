"""What can stand between us and Stripe, on real sockets: TLS, a proxy, a line that goes dead."""

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates that only those trust who were given `file`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Authority")])
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._signed(self._name, self._key, None).public_bytes(serialization.Encoding.PEM))

    def context(
        self, host: str = "localhost", *, valid: datetime.timedelta = DAY, own: bool = False
    ) -> ssl.SSLContext:
        """For a server with a certificate for `host`, valid until `valid` from now; `own`: signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        made = self._signed(name, key, host, valid=valid, signer=key if own else self._key)
        pair = self._folder / f"{host}-{made.serial_number}.pem"
        pair.write_bytes(
            made.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        return context

    def _signed(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        host: str | None,
        *,
        valid: datetime.timedelta = DAY,
        signer: ec.EllipticCurvePrivateKey | None = None,
    ) -> x509.Certificate:
        signer = signer or key
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name if signer is self._key else name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + valid) - DAY)
            .not_valid_after(now + valid)
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        )
        if host is not None:
            names: list[x509.GeneralName] = [x509.DNSName(host)]
            with contextlib.suppress(ValueError):
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256())


@asynccontextmanager
async def listening_with(
    serve: Serve, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """A server on a port, each of whose connections is handed to `serve`."""
    connections: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(run, host, port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in [*connections]:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


@dataclass
class Line:
    """What hands bytes on to a target. While `dead`, it takes them and hands nothing on: nobody hears of an end."""

    target: int
    dead: bool = False
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        if self.dead:
            await reader.read(-1)
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            await both_ways(reader, writer, far_reader, far_writer, lambda: not self.dead)
        finally:
            far_writer.close()


async def both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Hand bytes on, both ways, until one side ends."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            if alive():
                sink.write(data)
                await sink.drain()

    ways = [asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


@dataclass
class ConnectProxy:
    """A proxy that knows CONNECT. Every target leads to the port of that number on this machine.

    Args:
        user, password: what it asks for, if anything.
        refusal: a whole answer that it gives instead of a tunnel.
    """

    user: str = ""
    password: str = ""
    refusal: bytes = b""
    silent: bool = False
    """It takes connections and never answers."""
    asked: list[str] = field(default_factory=list)
    """The targets, as they were named."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self.silent:
            await reader.read(-1)
            return
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.splitlines()[0].split(" ")
        assert method == "CONNECT"
        self.asked.append(target)
        wanted = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if self.user and f"basic {wanted}".lower() not in head.lower():
            writer.write(b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n')
        elif self.refusal:
            writer.write(self.refusal)
        else:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            try:
                await both_ways(reader, writer, far_reader, far_writer)
            finally:
                far_writer.close()
            return
        await writer.drain()
