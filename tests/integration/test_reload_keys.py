"""Keys that verify tokens when policies change: what was loaded stays, counts go on, nothing becomes undecidable."""

import asyncio
from pathlib import Path

import pytest
from jwt_processor import QUICK, answered, config, measured, request, running, until, user
from tokens import OTHER_RSA, P256, RSA, Answer, KeyServer, jwk, key_set, sign

from otel_usageflow.errors import StartError, Unavailable
from otel_usageflow.processors.usage_policy.processor import UsagePolicyProcessor
from otel_usageflow.service.health import ServiceHealth

TOKEN = sign(RSA, {"sub": "acme", "org": "blue"}, kid="one")


async def reload(processor: UsagePolicyProcessor, verify: object, **more: object) -> None:
    change = await processor.prepare(config(verify, **more))
    change.apply()


async def loaded(processor: UsagePolicyProcessor, server: KeyServer) -> None:
    """Wait until tokens are judged."""
    assert await answered(processor, request(TOKEN)) == ("acme", 0)
    assert server.requests


async def test_keys_outlive_a_reload_while_their_address_is_down() -> None:
    """Tokens that could be judged before are judged after it, under other rules for them, too."""
    async with KeyServer(jwk(RSA, "one")) as server, running(config({"jwks_url": server.url})) as processor:
        await loaded(processor, server)
        await server.stop()
        await reload(processor, {"jwks_url": server.url}, claim="org")
        assert user(processor, request(TOKEN)) == "blue"
        await reload(processor, {"jwks_url": server.url, "leeway": "1m", "issuer": "us"}, claim="org")
        assert user(processor, request(TOKEN)) is None


async def test_keys_for_other_algorithms_begin_with_what_was_known() -> None:
    """What the address last said is read anew where a policy allows other algorithms."""
    keys = jwk(RSA, "one"), jwk(P256, "two")
    async with KeyServer(*keys) as server, running(config({"jwks_url": server.url})) as processor:
        await loaded(processor, server)
        await server.stop()
        await reload(processor, {"jwks_url": server.url, "algorithms": ["RS256", "ES256"]})
        assert user(processor, request(TOKEN)) == "acme"
        assert user(processor, request(sign(P256, {"sub": "b"}, "ES256", kid="two"))) == "b"


async def test_a_new_address_without_keys_is_not_taken_up() -> None:
    """Until it has answered, the policies of before judge; then it is."""
    health = ServiceHealth()
    async with KeyServer(jwk(RSA, "one")) as server, KeyServer(jwk(OTHER_RSA, "two")) as other:
        await other.stop()
        async with running(config({"jwks_url": server.url}), health) as processor:
            await loaded(processor, server)
            with pytest.raises(Unavailable, match=r"no keys yet to verify tokens with: http://127.*refused"):
                async with asyncio.timeout(8):
                    await reload(processor, {"jwks_url": other.url})
            assert user(processor, request(TOKEN)) == "acme"
            assert health.problems() == {}
            await other.start()
            await reload(processor, {"jwks_url": other.url})
            assert user(processor, request(sign(OTHER_RSA, {"sub": "b"}, kid="two"))) == "b"
            assert [one.ring.place for one in processor._keeper.upkeeps] == [other.url]
            asked = len(server.requests)
            await until(lambda: not processor._keeper._ending)
            assert len(server.requests) == asked


async def test_a_reload_that_is_thrown_away_leaves_nothing() -> None:
    """Its addresses are asked no more, and what is in force is kept up to date as before."""
    async with KeyServer(jwk(RSA, "one")) as server, KeyServer(jwk(OTHER_RSA, "two")) as other:
        async with running(config({"jwks_url": server.url})) as processor:
            change = await processor.prepare(config({"jwks_url": other.url}))
            change.discard()
            assert [one.ring.place for one in processor._keeper.upkeeps] == [server.url]
            assert list(processor._keeper._upkeeps) == [one.ring for one in processor._keeper.upkeeps]
            server.serve(jwk(OTHER_RSA, "new"))
            token = sign(OTHER_RSA, {"sub": "b"}, kid="new")
            assert (await answered(processor, request(token)))[0] == "b"
        await until(lambda: not processor._keeper._ending)


async def test_a_reload_that_is_given_up_while_it_waits_leaves_nothing() -> None:
    """As when the service is to stop: the upkeep of its keys ends."""
    async with KeyServer(jwk(RSA, "one")) as server, KeyServer() as slow:
        slow.answer = Answer(held=asyncio.Event())
        async with running(config({"jwks_url": server.url})) as processor:
            preparing = asyncio.create_task(processor.prepare(config({"jwks_url": slow.url})))
            await until(lambda: slow.requests)
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
            assert len(processor._keeper._upkeeps) == 1
            assert user(processor, request(TOKEN)) == "acme"


async def test_a_key_file_that_is_wrong_is_refused(tmp_path: Path) -> None:
    """A new file has to hold keys; one that is in use may be broken meanwhile, for its keys are known."""
    file, other = tmp_path / "keys.json", tmp_path / "other.json"
    file.write_bytes(key_set(jwk(RSA, "one")))
    other.write_text("nothing")
    async with running(config({"jwks_file": str(file)})) as processor:
        with pytest.raises(StartError, match=r"other\.json"):
            await reload(processor, {"jwks_file": str(other)})
        file.write_text("half")
        await reload(processor, {"jwks_file": str(file)}, claim="org")
        assert user(processor, request(TOKEN)) == "blue"


async def test_counts_do_not_go_back() -> None:
    """Of refused tokens and of loads, also where a policy or an address goes and comes back."""
    forged = request(sign(OTHER_RSA, {"sub": "x"}, kid="one"))
    refused, loads = "otel_usageflow_jwt_rejected_total", "otel_usageflow_jwt_key_loads_total"
    async with (
        KeyServer(jwk(RSA, "one")) as server,
        KeyServer(jwk(RSA, "one")) as other,
        running(config({"jwks_url": server.url})) as processor,
    ):
        assert (await answered(processor, forged))[0] is None
        assert await measured(processor, refused) == {("chat", "signature"): 1}
        before = await measured(processor, loads)
        assert before[server.url, "loaded"] >= 1
        await reload(processor, {"jwks_url": other.url})
        assert {place for place, _ in await measured(processor, loads)} == {other.url}
        assert (await answered(processor, forged))[0] is None
        assert await measured(processor, refused) == {("chat", "signature"): 2}
        await reload(processor, {"jwks_url": server.url})
        back = await measured(processor, loads)
        assert back[server.url, "loaded"] > before[server.url, "loaded"]
        await reload(processor, {"jwks_url": server.url}, claim="org")
        assert await measured(processor, loads) == back


async def test_the_first_policy_with_tokens_may_come_while_it_runs() -> None:
    """A processor that verified nothing at its start begins to."""
    async with KeyServer(jwk(RSA, "one")) as server, running(config("none")) as processor:
        await reload(processor, {"jwks_url": server.url})
        assert user(processor, request(TOKEN)) == "acme"
        assert (await answered(processor, request(sign(OTHER_RSA, {"sub": "x"}, kid="one"))))[0] is None
        await reload(processor, "none")
        assert user(processor, request(sign(OTHER_RSA, {"sub": "x"}, kid="one"))) == "x"
        assert processor._keeper.upkeeps == []


async def test_what_was_begun_ends_under_the_policies_of_before() -> None:
    """`judge` goes on as it was, whatever is applied meanwhile."""
    async with running(config("none"), timing=QUICK) as processor:
        judge = processor.judge()
        await reload(processor, "none", claim="org")
        data = request(TOKEN)
        assert [one.user for one in judge(data, 10**18).records] == ["acme"]
        assert [one.user for one in processor.judge()(data, 10**18).records] == ["blue"]
