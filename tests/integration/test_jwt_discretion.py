"""What is said of tokens: causes and counts, never a token or a claim; and deciding about them does no I/O."""

import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jwt_processor import CLOCK, QUICK, answered, config, measured, request, running, until, user
from structlog.testing import capture_logs
from tokens import OTHER_RSA, P256, RSA, KeyServer, jwk, key_set, sign

from otel_usageflow.component import Context
from otel_usageflow.errors import Unavailable
from otel_usageflow.processors.usage_policy.processor import UsagePolicyProcessor
from otel_usageflow.service.health import ServiceHealth


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with KeyServer(jwk(RSA, "one")) as running_server:
        yield running_server


ONE = sign(RSA, {"sub": "acme"}, kid="one")
TWO = sign(OTHER_RSA, {"sub": "globex"}, kid="two")


async def test_no_token_and_no_claim_is_logged_or_measured(server: KeyServer) -> None:
    """Not of good tokens, not of bad ones, not even in part."""
    secret_claim = "a-claim-that-nobody-may-see"
    tokens = [
        sign(RSA, {"sub": secret_claim, "email": secret_claim}, kid="one"),
        sign(OTHER_RSA, {"sub": secret_claim}, kid="one"),
        sign(RSA, {"sub": secret_claim, "exp": 1}, kid="one"),
        sign(RSA, {"email": secret_claim}, kid="one"),
    ]
    with capture_logs() as logs:
        async with running(config({"jwks_url": server.url})) as processor:
            for token in tokens:
                await answered(processor, request(token))
            shown = str(await processor.measure()) + str(logs)
            counts = await measured(processor, "otel_usageflow_jwt_rejected_total")
    assert counts == {("chat", "signature"): 1, ("chat", "expired"): 1, ("chat", "no_claim"): 1}
    assert secret_claim not in shown
    assert not any(part in shown for token in tokens for part in token.split("."))


async def test_the_log_says_what_was_refused(server: KeyServer) -> None:
    """Now and then by policy and cause, only what is new, and nothing where nothing was refused."""
    context = Context("usage_policy", ServiceHealth(), {}, clock=CLOCK)
    with capture_logs() as logs:
        told = logs_of("jwt_rejected", logs)
        async with UsagePolicyProcessor(
            config({"jwks_url": server.url}), context, remote=QUICK, summary_interval=0.01
        ) as processor:
            for token in ("a.b", "c.d", sign(RSA, {"sub": "acme", "exp": 1}, kid="one")):
                assert user(processor, request(token)) is None
            await until(lambda: bool(told()))
            assert user(processor, request("e.f")) is None
            await until(lambda: len(told()) == 2)
    first, second = (
        {key: value for key, value in one.items() if key not in ("log_level", "event")} for one in told()
    )
    assert first == {"policy": "chat", "malformed": 2, "expired": 1}
    assert second == {"policy": "chat", "malformed": 1}


def logs_of(event: str, logs: list[Any]) -> Callable[[], list[Any]]:
    return lambda: [one for one in logs if one["event"] == event]


_IO = frozenset({"open", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "os.listdir"})


@contextmanager
def watched() -> Iterator[list[str]]:
    """What this thread does to files and sockets during a block."""
    seen: list[str] = []
    here, active = threading.get_ident(), [True]

    def hook(event: str, _arguments: Any) -> None:
        if active and event in _IO and threading.get_ident() == here:
            seen.append(event)

    sys.addaudithook(hook)  # stays for good, but says nothing once the block is left
    try:
        yield seen
    finally:
        active.clear()


async def test_deciding_does_no_io(server: KeyServer, tmp_path: Path) -> None:
    """Good, forged, unknown and late tokens are decided, or put off, without a file or a connection."""
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(jwk(RSA, "one")))
    for verify in ({"jwks_url": server.url}, {"jwks_file": str(file)}):
        async with running(config(verify)) as processor:
            with watched() as seen:
                assert user(processor, request(ONE)) == "acme"
                for token in (sign(OTHER_RSA, {"sub": "x"}, kid="one"), TWO, sign(P256, {"sub": "x"}, "ES256")):
                    with pytest.raises(Unavailable):
                        processor.process(request(token), CLOCK.ns())
                assert user(processor, request("x.y.z")) is None
            assert seen == []
            with watched() as seen, (tmp_path / "x").open("w"):
                pass
            assert seen == ["open"]
