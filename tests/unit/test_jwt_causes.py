"""Why a token names no user: every way in which one can be wrong, and what of it is remembered."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from span_builder import NOW, http, payload, policy, span
from tokens import ED25519, OTHER_RSA, P256, RSA, SECRET, SMALL_RSA, b64, bearer, jwk, key_set, sign, sign_text

from otel_usageflow.errors import Unavailable
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.jwt_cache import RecentlyUsed
from otel_usageflow.policy.jwt_cause import Cause
from otel_usageflow.policy.jwt_claims import Rules
from otel_usageflow.policy.jwt_config import Verify
from otel_usageflow.policy.jwt_jwks import read_key_set
from otel_usageflow.policy.jwt_keys import PUBLIC_ALGORITHMS
from otel_usageflow.policy.jwt_ring import KeyRing
from otel_usageflow.policy.jwt_trust import Trust
from otel_usageflow.policy.jwt_verifier import BAD_TOKENS, GOOD_TOKENS, Verifier
from otel_usageflow.policy.policy import compile_policy
from otel_usageflow.policy.text import PLACEHOLDERS

AT = NOW // 10**9
KEYS = [jwk(RSA, "rsa"), jwk(P256, "ec"), jwk(ED25519, "ed", alg="EdDSA")]
CLAIMS = {"sub": "acme", "iss": "us", "aud": ["billing", "api"], "exp": AT + 60, "nbf": AT - 60}


def ring(*keys: Any, kept: bool = True) -> KeyRing:
    """A ring with these keys, which nobody loads again."""

    def read(data: bytes) -> tuple[Any, Any]:
        found = read_key_set(data, "keys")
        return found.keys, found.ignored

    made = KeyRing("keys", PUBLIC_ALGORITHMS, read, remote=True)
    if keys:
        made.take(key_set(*keys), 0)
    if kept:
        made.keep()
    return made


def verifier(keys: KeyRing, **rules: Any) -> Verifier:
    return Verifier(keys, Rules(frozenset({"us"}), frozenset({"billing"}), **rules), "sub", frozenset({"-"}))


def found(token: str, *keys: Any, at: int = AT) -> str | Cause:
    return verifier(ring(*(keys or KEYS))).user(token, at * 10**9)


GOOD = sign(RSA, CLAIMS, kid="rsa")
HEAD, BODY, SIGNATURE = GOOD.split(".")
EVIL = b64(json.dumps(CLAIMS | {"sub": "globex"}))


@pytest.mark.parametrize(
    ("token", "cause"),
    [
        ("x" * 16_385, Cause.TOO_LONG),
        ("", Cause.MALFORMED),
        ("...", Cause.MALFORMED),
        ("a.b", Cause.MALFORMED),
        (f"{HEAD}.{BODY}", Cause.MALFORMED),
        (f"{HEAD}.{BODY}.{SIGNATURE}.x", Cause.MALFORMED),
        (f"{HEAD}.{BODY}.!", Cause.MALFORMED),
        (f"{HEAD}.{b64('[]')}.{SIGNATURE}", Cause.MALFORMED),
        (f"{HEAD}.{b64('acme')}.{SIGNATURE}", Cause.MALFORMED),
        (f"{b64('{}')}.{BODY}.{SIGNATURE}", Cause.MALFORMED),
        (f"{b64('[1]')}.{BODY}.{SIGNATURE}", Cause.MALFORMED),
        (f"{HEAD}.{b64(b'{' + bytes([255]) + b'}')}.{SIGNATURE}", Cause.MALFORMED),
        (f"{HEAD}.{b64('[' * 10_000)}.{SIGNATURE}", Cause.MALFORMED),
        (GOOD.replace("e", "é", 1), Cause.MALFORMED),
        (GOOD + "\udcff", Cause.MALFORMED),
        (sign_text(RSA, '{"alg":"RS256","alg":"none"}', json.dumps(CLAIMS), "RS256"), Cause.MALFORMED),
        (sign_text(RSA, '{"alg":"RS256","kid":"rsa","kid":"ec"}', json.dumps(CLAIMS), "RS256"), Cause.MALFORMED),
        (sign_text(RSA, '{"alg":"RS256","kid":7}', json.dumps(CLAIMS), "RS256"), Cause.MALFORMED),
        (sign_text(RSA, '{"alg":["RS256"]}', json.dumps(CLAIMS), "RS256"), Cause.MALFORMED),
        (sign(RSA, CLAIMS | {"exp": "soon"}, kid="rsa"), Cause.MALFORMED),
        (sign(RSA, CLAIMS | {"exp": True}, kid="rsa"), Cause.MALFORMED),
        (sign(RSA, CLAIMS | {"exp": [AT + 60]}, kid="rsa"), Cause.MALFORMED),
        (sign(RSA, CLAIMS | {"exp": float("inf")}, kid="rsa"), Cause.MALFORMED),
        (sign(RSA, CLAIMS | {"nbf": float("nan")}, kid="rsa"), Cause.MALFORMED),
        (".".join([b64('{"alg":"RSA-OAEP","enc":"A256GCM"}'), *"abcd"]), Cause.ENCRYPTED),
        (sign(RSA, CLAIMS, kid="rsa", cty="JWT"), Cause.ENCRYPTED),
        (sign(RSA, CLAIMS, kid="rsa", cty="application/jwt"), Cause.ENCRYPTED),
        (sign(RSA, CLAIMS, kid="rsa", crit=["exp"]), Cause.EXTENSION),
        (sign(RSA, CLAIMS, kid="rsa", b64=False), Cause.EXTENSION),
        (f"{b64(json.dumps({'alg': 'none'}))}.{BODY}.", Cause.ALGORITHM),
        (f"{b64(json.dumps({'alg': 'nOnE'}))}.{BODY}.{SIGNATURE}", Cause.ALGORITHM),
        (sign(SECRET, CLAIMS, "HS256", kid="rsa"), Cause.ALGORITHM),
        (sign(json.dumps(KEYS[0]).encode(), CLAIMS, "HS256"), Cause.ALGORITHM),
        (sign(RSA, CLAIMS, kid="ec"), Cause.ALGORITHM),
        (sign(RSA, CLAIMS | {"iss": "them"}, kid="rsa"), Cause.ISSUER),
        (sign(RSA, CLAIMS | {"iss": ["us"]}, kid="rsa"), Cause.ISSUER),
        (sign(RSA, json.dumps(CLAIMS)[:-1] + ',"iss":"them"}', kid="rsa"), Cause.ISSUER),
        (sign(RSA, CLAIMS | {"aud": "web"}, kid="rsa"), Cause.AUDIENCE),
        (sign(RSA, CLAIMS | {"aud": {"billing": 1}}, kid="rsa"), Cause.AUDIENCE),
        (sign(RSA, CLAIMS, kid="new"), Cause.UNKNOWN_KEY),
        (sign(OTHER_RSA, CLAIMS, kid="rsa"), Cause.SIGNATURE),
        (sign(OTHER_RSA, CLAIMS), Cause.SIGNATURE),
        (sign(SMALL_RSA, CLAIMS, jwk=jwk(SMALL_RSA), jku="https://evil.example/keys"), Cause.SIGNATURE),
        (f"{HEAD}.{EVIL}.{SIGNATURE}", Cause.SIGNATURE),
        (f"{HEAD}.{BODY}.", Cause.SIGNATURE),
        (f"{HEAD}.{BODY}.{SIGNATURE[:-4]}", Cause.SIGNATURE),
        (sign(RSA, CLAIMS | {"exp": AT}, kid="rsa"), Cause.EXPIRED),
        (sign(RSA, CLAIMS | {"exp": -(10**400)}, kid="rsa"), Cause.EXPIRED),
        (sign(RSA, json.dumps(CLAIMS)[:-1] + f',"exp":{AT - 1}}}', kid="rsa"), Cause.EXPIRED),
        (sign(RSA, CLAIMS | {"nbf": AT + 1}, kid="rsa"), Cause.NOT_YET_VALID),
        (sign(RSA, CLAIMS | {"nbf": 10**400}, kid="rsa"), Cause.NOT_YET_VALID),
        (sign(RSA, CLAIMS | {"sub": None}, kid="rsa"), Cause.NO_CLAIM),
        (sign(RSA, CLAIMS | {"sub": " - "}, kid="rsa"), Cause.NO_CLAIM),
        (sign(RSA, CLAIMS | {"sub": ["acme", "globex"]}, kid="rsa"), Cause.NO_CLAIM),
        (sign(RSA, json.dumps(CLAIMS)[:-1] + ',"sub":"globex"}', kid="rsa"), Cause.NO_CLAIM),
        (sign(RSA, CLAIMS | {"sub": "x" * 501}, kid="rsa"), Cause.NO_CLAIM),
    ],
)
def test_a_token_is_refused_for_its_cause(token: str, cause: Cause) -> None:
    """Each kind of wrong token is nobody, has one cause, and has the same when it comes again."""
    judge = verifier(ring(*KEYS))
    assert judge.user(token, AT * 10**9) is cause
    assert judge.user(token, AT * 10**9) is cause


@pytest.mark.parametrize(
    "token",
    [
        GOOD,
        sign(RSA, CLAIMS),
        sign(P256, CLAIMS, "ES256", kid="ec"),
        sign(P256, CLAIMS, "ES256"),
        sign(ED25519, CLAIMS, "EdDSA", kid="ed"),
        sign(ED25519, CLAIMS, "Ed25519"),
        sign(RSA, CLAIMS, "PS512", kid="rsa", typ="at+jwt"),
        sign(RSA, CLAIMS | {"exp": AT + 0.5, "iat": AT + 900}, kid="rsa"),
        sign(RSA, CLAIMS | {"exp": 10**400}, kid="rsa"),
        sign(RSA, {key: value for key, value in CLAIMS.items() if key not in ("exp", "nbf")}, kid="rsa"),
        sign(RSA, json.dumps(CLAIMS)[:-1] + ',"sub":"acme","exp":' + str(AT + 1) + "}", kid="rsa"),
    ],
)
def test_a_good_token_names_its_user(token: str) -> None:
    """With and without `kid`, by every kind of key; times may be fractions or missing, and equal repeats are one."""
    assert found(token) == "acme"


def test_keys_without_a_name_are_tried_for_every_token() -> None:
    """A set may leave `kid` out where its tokens have one, and two keys may share one."""
    assert found(GOOD, jwk(OTHER_RSA), jwk(RSA)) == "acme"
    assert found(GOOD, jwk(OTHER_RSA, "rsa"), jwk(RSA, "rsa")) == "acme"
    assert found(GOOD, jwk(OTHER_RSA, "other"), jwk(RSA, "yet another")) is Cause.UNKNOWN_KEY


def test_a_remembered_token_is_judged_anew_by_time() -> None:
    """What is remembered is when a token is in force, not whether it is."""
    judge = verifier(ring(*KEYS))
    for at, answer in ((0, "acme"), (60, Cause.EXPIRED), (59, "acme"), (-61, Cause.NOT_YET_VALID), (-60, "acme")):
        assert judge.user(GOOD, (AT + at) * 10**9) == answer


def test_leeway_widens_both_ends() -> None:
    """By so much clocks may differ, before and after."""
    judge = verifier(ring(*KEYS), leeway=10.0)
    for at, answer in ((69, "acme"), (70, Cause.EXPIRED), (-70, "acme"), (-71, Cause.NOT_YET_VALID)):
        assert judge.user(GOOD, (AT + at) * 10**9) == answer


def test_a_withdrawn_key_counts_for_requests_before() -> None:
    """A request from before the key was gone is billed, a later one is not, whenever they arrive."""
    keys = ring(*KEYS)
    judge = verifier(keys)
    assert judge.user(GOOD, AT * 10**9) == "acme"
    keys.take(key_set(KEYS[1]), (AT + 5) * 10**9)
    assert judge.user(GOOD, (AT + 5) * 10**9) == "acme"
    assert judge.user(GOOD, (AT + 5) * 10**9 + 1) is Cause.WITHDRAWN_KEY
    keys.take(key_set(*KEYS), (AT + 9) * 10**9)
    assert judge.user(GOOD, (AT + 10) * 10**9) == "acme"


def test_a_withdrawn_key_may_be_back() -> None:
    """Before a request is refused because its key is gone, the keys are looked at once more."""
    keys = ring(*KEYS, kept=False)
    judge = verifier(keys)
    keys.take(key_set(KEYS[1]), (AT - 5) * 10**9)
    with pytest.raises(Unavailable):
        judge.user(GOOD, AT * 10**9)
    waiting = keys.begin()
    keys.take(key_set(*KEYS), (AT + 1) * 10**9)
    keys.end(waiting)
    assert judge.user(GOOD, AT * 10**9) == "acme"
    keys.take(key_set(KEYS[1]), (AT - 1) * 10**9)
    with pytest.raises(Unavailable):
        judge.user(GOOD, AT * 10**9)
    keys.end(keys.begin())
    assert judge.user(GOOD, AT * 10**9) is Cause.WITHDRAWN_KEY


def test_nothing_is_refused_before_keys_were_looked_for() -> None:
    """A token that no key verifies waits for one refresh; then it is judged, and so are others under that name."""
    woken: list[int] = []
    keys = ring(*KEYS, kept=False)
    keys.wake = lambda: woken.append(1)
    judge = verifier(keys)
    for token, same, cause in (
        (sign(OTHER_RSA, CLAIMS, kid="new"), sign(P256, CLAIMS, "ES256", kid="new"), Cause.UNKNOWN_KEY),
        (sign(OTHER_RSA, CLAIMS), sign(SMALL_RSA, CLAIMS), Cause.SIGNATURE),
        (sign(OTHER_RSA, CLAIMS, kid="rsa"), sign(SMALL_RSA, CLAIMS, kid="rsa"), Cause.SIGNATURE),
    ):
        for _ in range(3):
            with pytest.raises(Unavailable, match="not known yet"):
                judge.user(token, AT * 10**9)
        assert woken == [1]
        waiting = keys.begin()
        with pytest.raises(Unavailable):
            judge.user(token, AT * 10**9)
        keys.end(waiting)
        assert not keys.doubted
        assert judge.user(token, AT * 10**9) is cause
        assert judge.user(same, AT * 10**9) is cause
        assert keys.doubted
        keys.end(keys.begin())
        woken.clear()
    assert judge.user(GOOD, AT * 10**9) == "acme"


def test_one_look_is_enough_for_a_whole_request() -> None:
    """All unknown keys of an export request are looked for together, so that it is sent again once."""
    trust = Trust()
    rule = {"jwt": {"claim": "sub", "verify": {"jwks_url": "https://id.example.com/keys"}}}
    judge = PolicyEngine([compile_policy(policy(user=rule), PLACEHOLDERS, trust)])
    (keys,) = trust.rings
    keys.take(key_set(*KEYS), 0)
    tokens = [sign(OTHER_RSA, CLAIMS, kid=f"new{number}") for number in range(5)]
    data = payload(*(span(http() | bearer(token)) for token in [GOOD, *tokens]))
    with pytest.raises(Unavailable):
        judge.evaluate(data, NOW)
    keys.end(keys.begin())
    assert [record.user for record in judge.evaluate(data, NOW).records] == ["acme", *[None] * 5]
    assert trust.refused["chat", Cause.UNKNOWN_KEY] == 5


def test_what_no_key_could_save_does_not_wait() -> None:
    """The wrong issuer, an expired token, no token at all: refused at once, without any keys."""
    keys = ring(kept=False)
    judge = verifier(keys)
    for claims, cause in (
        (CLAIMS | {"iss": "them"}, Cause.ISSUER),
        (CLAIMS | {"aud": "web"}, Cause.AUDIENCE),
        (CLAIMS | {"exp": AT}, Cause.EXPIRED),
        (CLAIMS | {"nbf": AT + 1}, Cause.NOT_YET_VALID),
    ):
        assert judge.user(sign(OTHER_RSA, claims, kid="new"), AT * 10**9) is cause
    assert judge.user("no token", AT * 10**9) is Cause.MALFORMED
    assert judge.user(sign(SECRET, CLAIMS, "HS256"), AT * 10**9) is Cause.ALGORITHM
    assert not keys.wanted


def test_without_keys_nothing_is_refused_however_often_they_failed_to_load() -> None:
    """Until there were keys once, a request with a token has to come again."""
    keys = ring(kept=False)
    judge = verifier(keys)
    for _ in range(3):
        with pytest.raises(Unavailable, match="could not be loaded"):
            judge.user(GOOD, AT * 10**9)
        assert keys.wanted
        keys.end(keys.begin())
    keys.take(key_set(*KEYS), AT * 10**9)
    assert judge.user(GOOD, AT * 10**9) == "acme"


def test_new_keys_end_all_doubts() -> None:
    """A key that was not found before is looked for again once the set has changed."""
    keys = ring(KEYS[1], kept=False)
    judge = verifier(keys)
    with pytest.raises(Unavailable):
        judge.user(GOOD, AT * 10**9)
    keys.end(keys.begin())
    assert judge.user(GOOD, AT * 10**9) is Cause.UNKNOWN_KEY
    keys.take(key_set(KEYS[2]), 2)
    with pytest.raises(Unavailable):
        judge.user(GOOD, AT * 10**9)


def test_keys_that_come_in_between_refuse_nothing() -> None:
    """Keys that were replaced while a token was being judged are no reason to refuse it."""
    keys = ring(KEYS[1])
    before = keys.keys
    keys.take(key_set(KEYS[0]), 2)
    assert not keys.settled(before, "rsa")
    assert keys.settled(keys.keys, "x")


def test_memory_is_bounded() -> None:
    """Forged tokens and the names in them fill only so much, and push no good ones out."""
    judge = verifier(ring(*KEYS))
    judge.user(GOOD, AT * 10**9)
    for number in range(2 * BAD_TOKENS + 10):
        judge.user(f"{HEAD}.{BODY}.{b64(str(number))}", AT * 10**9)
    memory = judge._memory
    assert len(memory.good) == 1
    assert BAD_TOKENS <= len(memory.bad) <= 2 * BAD_TOKENS
    assert GOOD not in str(vars(judge)) + repr(memory.good._young)
    waiting = ring(*KEYS, kept=False)
    for number in range(3000):
        waiting.settled(waiting.keys, f"{number}")
    waiting.end(waiting.begin())
    waiting.end({f"x{number}": None for number in range(900)})
    assert sys.getsizeof(waiting._absent) < 100_000
    assert GOOD_TOKENS * 2 == 32_768


def test_what_is_used_stays() -> None:
    """Of the entries of a full memory, the ones used last are there."""
    memory: RecentlyUsed[int] = RecentlyUsed(10)
    for number in range(100):
        memory.put(b"%d" % number, number)
        assert memory.get(b"0") == 0
        assert len(memory) <= 20
    assert all(memory.get(b"%d" % number) == number for number in range(91, 100))
    assert memory.get(b"50") is None


def test_policies_that_verify_alike_share_what_is_known(tmp_path: Path) -> None:
    """One place of keys is one ring, and one way to verify one memory."""
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(*KEYS))
    trust = Trust()
    one = trust.verifier(Verify(jwks_file=str(file), issuer=["us"]), "sub", frozenset())
    same = trust.verifier(Verify(jwks_file=str(file), issuer=["us"]), "sub", frozenset())
    other = trust.verifier(Verify(jwks_file=str(file)), "sub", frozenset())
    assert one is same
    assert one is not other
    assert len(trust.rings) == 1


def test_refusals_are_counted_by_policy_and_cause(tmp_path: Path) -> None:
    """Once for each policy that asked, also where a later source finds the user; a missing token is none."""
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(*KEYS))
    trust = Trust(fixed=True)
    rule = {"jwt": {"claim": "sub", "verify": {"jwks_file": str(file)}}}
    rules = [
        policy(name="one", user=[rule, {"header": "x-account-id"}]),
        policy(name="two", user={"jwt": {"claim": "sub", "verify": "none"}}, event_name="other"),
    ]
    judge = PolicyEngine([compile_policy(one, PLACEHOLDERS, trust) for one in rules])
    forged = http() | bearer(f"{HEAD}.{EVIL}.{SIGNATURE}") | {"http.request.header.x-account-id": "acme"}
    batch = judge.evaluate(payload(span(forged), span(http()), span(http() | bearer("[REDACTED]"))), NOW)
    assert [record.user for record in batch.records] == ["acme", "globex", None, None, None, None]
    assert {key: count for key, count in trust.refused.items() if count} == {("one", Cause.SIGNATURE): 1}
    judge.evaluate(payload(span(http() | bearer("x.y.z"))), NOW)
    assert trust.refused["two", Cause.MALFORMED] == 1
    assert trust.refused["one", Cause.MALFORMED] == 1
    assert len(trust.refused) == 2 * len(Cause)
