"""Keys of tokens from real addresses and files: fetched beside the way of the spans, and no span is lost for them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt_processor import CLOCK, QUICK, answered, config, measured, request, running, until, user
from span_builder import http, payload, span
from structlog.testing import capture_logs
from tokens import OTHER_RSA, P256, RSA, Answer, KeyServer, jwk, key_set, sign

from otel_usageflow.errors import StartError, Unavailable
from otel_usageflow.policy.jwt_keys import MAX_BYTES
from otel_usageflow.processors.usage_policy.key_fetch import fetch, open_session
from otel_usageflow.processors.usage_policy.processor import compile_engine
from otel_usageflow.service.health import ServiceHealth


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with KeyServer(jwk(RSA, "one")) as running_server:
        yield running_server


ONE = sign(RSA, {"sub": "acme"}, kid="one")
TWO = sign(OTHER_RSA, {"sub": "globex"}, kid="two")


async def test_keys_are_there_before_the_first_span(server: KeyServer) -> None:
    """The start waits for the first answer, so nobody is refused when all is well; metrics show the keys."""
    health = ServiceHealth()
    async with running(config({"jwks_url": server.url}), health) as processor:
        assert user(processor, request(ONE)) == "acme"
        assert not health.problems()
        assert await measured(processor, "otel_usageflow_jwt_keys") == {(server.url,): 1}
        assert await measured(processor, "otel_usageflow_jwt_key_loads_total") == {(server.url, "loaded"): 1}
    (headers,) = server.requests
    assert headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in headers


async def test_a_new_key_is_found_when_a_token_names_it(server: KeyServer) -> None:
    """A rotation costs one refresh: the request waits for it and is billed, and so are those under the old key."""
    async with running(config({"jwks_url": server.url})) as processor:
        old = request(ONE)
        assert user(processor, old) == "acme"
        server.serve(jwk(OTHER_RSA, "two"))
        assert user(processor, request(ONE)) == "acme"
        who, refusals = await answered(processor, request(TWO))
        assert who == "globex"
        assert refusals > 0
        assert user(processor, old) == "acme"
        assert (await answered(processor, request(ONE)))[0] is None
        assert await measured(processor, "otel_usageflow_jwt_rejected_total") == {("chat", "withdrawn_key"): 1}
        assert len(server.requests) == 3


async def test_a_key_that_nobody_has_is_looked_for_once(server: KeyServer) -> None:
    """After one refresh its requests are no user's; those that follow do not wait, and do not make more refreshes."""
    async with running(config({"jwks_url": server.url})) as processor:
        assert (await answered(processor, request(TWO)))[0] is None
        for _ in range(50):
            assert await answered(processor, request(TWO)) == (None, 0)
        assert await measured(processor, "otel_usageflow_jwt_rejected_total") == {("chat", "unknown_key"): 51}
        assert len(server.requests) == 2


async def test_a_flood_of_unknown_keys_does_not_reach_the_endpoint(server: KeyServer) -> None:
    """However many names tokens make up, the endpoint is asked at most once in a while."""
    gap = 0.1
    async with running(config({"jwks_url": server.url}), timing=replace(QUICK, gap=gap)) as processor:
        began = asyncio.get_running_loop().time()
        tokens = [sign(P256, {"sub": "x"}, "ES256", kid=f"k{number}") for number in range(12)]
        for token in tokens:
            assert (await answered(processor, request(token)))[0] is None
        took = asyncio.get_running_loop().time() - began
        assert len(server.requests) <= 2 + took / gap


async def test_an_endpoint_that_is_down_at_the_start_loses_nothing(server: KeyServer) -> None:
    """Requests with tokens are refused and come again, others are billed, readiness says why; then all is billed."""
    health = ServiceHealth()
    await server.stop()
    with capture_logs() as logs:
        async with running(config({"jwks_url": server.url}), health) as processor:
            data = request(ONE)
            for _ in range(3):
                with pytest.raises(Unavailable, match="could not be loaded"):
                    processor.process(data, CLOCK.ns())
            other = http("/plain") | {"http.request.header.x-account-id": "acme"}
            (record,) = processor.process(payload(span(other)), CLOCK.ns()).records
            assert record.user == "acme"
            assert user(processor, request("no.good.token")) is None
            assert server.url in health.problems()["usage_policy"]
            await server.start()
            assert (await answered(processor, data))[0] == "acme"
            assert not health.problems()
            failed = (await measured(processor, "otel_usageflow_jwt_key_loads_total"))[server.url, "failed"]
            assert failed >= 1
    assert [one["event"] for one in logs] == ["jwt_keys_not_loaded", "jwt_keys_loaded", "jwt_keys_loaded_again"]
    assert not health.problems()


async def test_the_last_good_keys_stay(server: KeyServer) -> None:
    """An endpoint that goes away, or answers nonsense, takes no key away; a new key is refused after one try."""
    async with running(config({"jwks_url": server.url})) as processor:
        for answer in (
            Answer(b"<html>", 200),
            Answer(b"", 503),
            Answer(key_set(), 200),
            Answer(b'{"keys": [{"kty": "RSA"}]}'),
        ):
            server.answer = answer
            before = len(server.requests)
            token = sign(OTHER_RSA, {"sub": "globex"}, kid=f"{answer.status}{len(answer.body)}")
            assert (await answered(processor, request(token)))[0] is None
            assert len(server.requests) >= before + 2
            assert user(processor, request(ONE)) == "acme"
        await server.stop()
        assert (await answered(processor, request(TWO)))[0] is None
        assert user(processor, request(ONE)) == "acme"


async def test_a_failure_of_a_moment_is_tried_again(server: KeyServer) -> None:
    """One bad answer during a rotation costs nobody anything: a refresh asks twice."""
    async with running(config({"jwks_url": server.url}), timing=replace(QUICK, pause=0.3)) as processor:
        server.answer = Answer(b"", 502)
        data = request(TWO)
        with pytest.raises(Unavailable):
            processor.process(data, CLOCK.ns())
        await until(lambda: len(server.requests) == 2)
        server.serve(jwk(OTHER_RSA, "two"))
        assert (await answered(processor, data))[0] == "globex"
        assert await measured(processor, "otel_usageflow_jwt_rejected_total") == {}


async def test_keys_are_refreshed_at_an_interval(server: KeyServer) -> None:
    """A key that is withdrawn is noticed without any token that asks."""
    async with running(config({"jwks_url": server.url}), timing=replace(QUICK, interval=0.05)) as processor:
        server.serve(jwk(OTHER_RSA, "two"))
        await until(lambda: len(server.requests) >= 3)
        assert user(processor, request(TWO)) == "globex"
        assert (await answered(processor, request(ONE)))[0] is None


async def test_keys_that_were_not_found_are_looked_for_again(server: KeyServer) -> None:
    """A key that appears late, as from behind a cache, is found without another wait."""
    async with running(config({"jwks_url": server.url}), timing=replace(QUICK, recheck=0.1)) as processor:
        assert (await answered(processor, request(TWO)))[0] is None
        server.serve(jwk(RSA, "one"), jwk(OTHER_RSA, "two"))
        await until(lambda: user(processor, request(TWO)) == "globex")
        assert len(server.requests) == 3


async def test_a_slow_endpoint_delays_nobody_else(server: KeyServer) -> None:
    """While it has not answered, the service starts, bills what needs no new key, and refuses the rest for now."""
    async with running(config({"jwks_url": server.url})) as processor:
        server.answer = Answer(key_set(jwk(OTHER_RSA, "two")), held=asyncio.Event())
        data = request(TWO)
        with pytest.raises(Unavailable):
            processor.process(data, CLOCK.ns())
        await until(lambda: len(server.requests) == 2)
        assert user(processor, request(ONE)) == "acme"
        with pytest.raises(Unavailable):
            processor.process(data, CLOCK.ns())
        assert server.answer.held is not None
        server.answer.held.set()
        assert (await answered(processor, data))[0] == "globex"


async def test_a_flapping_endpoint_loses_nothing() -> None:
    """Up and down again and again, keys changing: every request is billed to the user who was signed."""
    server = KeyServer(jwk(RSA, "k0"))
    await server.start()
    async with running(config({"jwks_url": server.url}), timing=replace(QUICK, interval=0.05)) as processor:
        for number in range(1, 9):
            await server.stop()
            assert user(processor, request(sign(RSA, {"sub": "acme"}, kid="k0"))) == "acme"
            server.serve(jwk(RSA, "k0"), jwk(OTHER_RSA, f"k{number}"))
            await server.start()
            token = sign(OTHER_RSA, {"sub": "globex"}, kid=f"k{number}")
            assert (await answered(processor, request(token)))[0] == "globex"
    await server.stop()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(b" " * (MAX_BYTES + 1)), "answered more than 262144 bytes"),
        (Answer(b"", 302, {"Location": "/moved"}), r"redirects \(302\)"),
        (Answer(b"", 404), "answered 404"),
        (Answer(b"", 204), "answered 204"),
        (Answer(b"x", 200, {"Content-Encoding": "gzip"}), "in a compressed form"),
        (Answer(held=asyncio.Event()), "did not answer in time"),
    ],
    ids=["huge", "redirect", "missing", "empty", "compressed", "slow"],
)
async def test_an_answer_that_is_none_is_explained(server: KeyServer, answer: Answer, says: str) -> None:
    """Only a whole answer of bounded size, in time, from the address itself."""
    server.answer = answer
    async with open_session(timeout=0.5) as session:
        with pytest.raises(ValueError, match=says):
            await fetch(session, server.url)
    assert len(server.requests) == 1


async def test_an_address_without_a_server_is_explained(server: KeyServer) -> None:
    """The reason names the address, and is not a traceback."""
    await server.stop()
    async with open_session() as session:
        with pytest.raises(ValueError, match=f"^{server.url} cannot be read: "):
            await fetch(session, server.url)


@pytest.mark.parametrize("kind", ["jwks_file", "public_key_file"])
async def test_a_key_file_is_read_again(kind: str, tmp_path: Path) -> None:
    """A changed file counts at once for a token that needs it; a broken or missing one is only logged."""
    file = tmp_path / "keys"

    def write(key: Any) -> None:
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        new = tmp_path / "new"
        new.write_bytes(key_set(jwk(key)) if kind == "jwks_file" else public)
        new.rename(file)

    write(RSA)
    with capture_logs() as logs:
        async with running(config({kind: str(file)}), file=replace(QUICK, tries=1)) as processor:
            before = request(ONE)
            assert user(processor, before) == "acme"
            write(OTHER_RSA)
            assert await answered(processor, request(TWO)) > ("globex", 0)
            assert user(processor, before) == "acme"
            assert (await answered(processor, request(ONE)))[0] is None
            file.write_text("no keys")
            assert (await answered(processor, request(sign(P256, {"sub": "x"}, "ES256", kid="3"))))[0] is None
            file.unlink()
            assert (await answered(processor, request(sign(P256, {"sub": "x"}, "ES256", kid="4"))))[0] is None
            assert user(processor, request(TWO)) == "globex"
            write(RSA)
            assert (await answered(processor, request(sign(RSA, {"sub": "acme"}, kid="5"))))[0] == "acme"
    reasons = [one["reason"] for one in logs if one["event"] == "jwt_keys_not_loaded"]
    assert len(reasons) == 2
    assert all(str(file) in reason for reason in reasons)
    assert reasons[1].endswith("cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read: No such file"), ("{}", "is no key set"), ("", "is no JSON")],
)
def test_a_key_set_file_is_checked_at_the_start(content: str | None, says: str, tmp_path: Path) -> None:
    """Its path and the reason are said, and nothing starts."""
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StartError, match=f"^{file} {says}"):
        compile_engine(config({"jwks_file": str(file)}))


async def test_a_command_fetches_once(server: KeyServer) -> None:
    """`preview` asks the address once and judges by what it got, without anything to wait for; or it says why not."""
    made = await asyncio.to_thread(compile_engine, config({"jwks_url": server.url}))
    batch = made.evaluate(request(ONE) + request(TWO), CLOCK.ns())
    assert [record.user for record in batch.records] == ["acme", None]
    assert len(server.requests) == 1
    await server.stop()
    with pytest.raises(StartError, match=r"cannot be read: .*jwks_file"):
        await asyncio.to_thread(compile_engine, config({"jwks_url": server.url}))


async def test_a_large_request_is_judged_in_a_thread(server: KeyServer) -> None:
    """From another thread, too, an unknown key asks for a refresh."""
    async with running(config({"jwks_url": server.url})) as processor:
        data = request(TWO)
        server.serve(jwk(OTHER_RSA, "two"))
        with pytest.raises(Unavailable):
            await asyncio.to_thread(processor.process, data, CLOCK.ns())
        assert (await answered(processor, data))[0] == "globex"
