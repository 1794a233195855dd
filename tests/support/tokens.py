"""Tokens and keys for tests: real signatures, any header, and a server that hands out key sets well or badly."""

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = b"thirty-two bytes are the least, and more are better, so here are over sixty-four"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
K256 = ec.generate_private_key(ec.SECP256K1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ED448 = ed448.Ed448PrivateKey.generate()


def b64(data: bytes | str) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).decode().rstrip("=")


def sign(key: Any, claims: Any, algorithm: str = "RS256", kid: str | None = None, **header: Any) -> str:
    """A token. Claims and header may be JSON texts, to say what no library would write.

    Args:
        key: the private key, or the bytes of a secret.
        claims: an object, or its JSON.
        algorithm: what the header says and the signature is made with.
        kid: the name of the key, if any.
        header: further members.
    """
    head = {"alg": algorithm, **({} if kid is None else {"kid": kid}), **header}
    return sign_text(key, json.dumps(head), claims if isinstance(claims, str) else json.dumps(claims), algorithm)


def sign_text(key: Any, header: str, claims: str, algorithm: str) -> str:
    """A token with exactly these texts as header and claims."""
    signed = f"{b64(header)}.{b64(claims)}"
    with_ = jwt.get_algorithm_by_name("EdDSA" if algorithm in ("Ed25519", "Ed448") else algorithm)
    return f"{signed}.{b64(with_.sign(signed.encode(), key))}"


def jwk(key: Any, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """The public key as a JSON Web Key; a secret as itself."""
    if isinstance(key, bytes):
        made: dict[str, Any] = HMACAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, rsa.RSAPrivateKey):
        made = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        made = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        made = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return {**made, **({} if kid is None else {"kid": kid}), **more}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    """A key set, serialized."""
    return json.dumps({"keys": list(keys)}).encode()


def bearer(token: str) -> dict[str, Any]:
    """The attribute that carries a token."""
    return {"http.request.header.authorization": [f"Bearer {token}"]}


@dataclass
class Answer:
    """What the server says once or from now on."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    held: asyncio.Event | None = None
    """If given, nothing is answered before it is set."""


class KeyServer:
    """An address of a key set on this machine; `answer` may be changed at any time."""

    def __init__(self, *keys: Mapping[str, Any], tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.answer = Answer(key_set(*keys))
        self.requests: list[Mapping[str, str]] = []
        """The headers of each."""
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The address; the same after a restart."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}/keys"

    def serve(self, *keys: Mapping[str, Any]) -> None:
        """Answer with these keys from now on."""
        self.answer = Answer(key_set(*keys))

    async def start(self) -> None:
        """Listen; the first time on a free port."""
        app = web.Application()
        app.router.add_get("/keys", self._handle)
        app.router.add_get("/moved", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await site.start()
        addresses: Sequence[Any] = self._runner.addresses
        self._port = addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections; nobody is left waiting."""
        if self.answer.held is not None:
            self.answer.held.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> "KeyServer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _handle(self, request: web.Request) -> web.Response:
        answer = self.answer
        self.requests.append(dict(request.headers))
        if answer.held is not None:
            await answer.held.wait()
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
