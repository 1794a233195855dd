"""What holds for tokens on any input: only what was signed is a user, and nothing is an accident."""

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tokens import ED25519, OTHER_RSA, P256, RSA, SECRET, b64, jwk, key_set, sign, sign_text

from otel_usageflow.errors import Unavailable
from otel_usageflow.policy.cookies import cookie_values
from otel_usageflow.policy.jwt_cause import Cause
from otel_usageflow.policy.jwt_claims import Rules
from otel_usageflow.policy.jwt_jwks import read_key_set
from otel_usageflow.policy.jwt_keys import ALGORITHMS
from otel_usageflow.policy.jwt_ring import KeyRing
from otel_usageflow.policy.jwt_verifier import Verifier
from otel_usageflow.policy.text import PLACEHOLDERS

AT = 1_800_000_000
CLAIMS = {"sub": "acme", "exp": AT + 60, "org": {"tenant": "globex"}}
KEYS = [(RSA, "RS256", "a"), (P256, "ES256", "b"), (ED25519, "EdDSA", "c"), (SECRET, "HS256", "d")]
SET = key_set(*(jwk(key, kid) for key, _, kid in KEYS))
TOKENS = [sign(key, CLAIMS, algorithm, kid) for key, algorithm, kid in KEYS]
TOKENS += [sign(key, CLAIMS, algorithm) for key, algorithm, _ in KEYS]


def verifier(*, kept: bool = True) -> Verifier:
    def read(data: bytes) -> tuple[Any, Any]:
        found = read_key_set(data, "keys")
        return found.keys, found.ignored

    ring = KeyRing("keys", ALGORITHMS, read, remote=False)
    ring.take(SET, 0)
    if kept:
        ring.keep()
    return Verifier(ring, Rules(), "sub", PLACEHOLDERS)


JUDGE = verifier()


def found(token: str, at: int = AT) -> str | Cause:
    return JUDGE.user(token, at * 10**9)


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """A signed token, changed: characters, parts, or parts of another token."""
    token = draw(st.sampled_from(TOKENS))
    kind = draw(st.integers(0, 4))
    if kind == 0:  # one character
        at = draw(st.integers(0, len(token) - 1))
        return token[:at] + draw(st.characters()) + token[at + 1 :]
    if kind == 1:  # cut, or something put in
        at, length = draw(st.integers(0, len(token))), draw(st.integers(0, 20))
        return token[:at] + draw(st.text(max_size=10)) + token[at + length :]
    parts = [draw(st.sampled_from(TOKENS)).split(".")[index] for index in range(3)]
    if kind == 2:  # parts of several
        return ".".join(draw(st.permutations(parts)) if draw(st.booleans()) else parts)
    header = json.loads(_text(parts[0]))
    claims = json.loads(_text(parts[1]))
    if kind == 3:  # other claims under an old signature
        claims |= draw(st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "x"]), SCALARS, min_size=1))
    else:  # another header over old claims
        header |= draw(
            st.dictionaries(
                st.sampled_from(["alg", "kid", "typ", "crit", "b64", "cty", "jwk", "jku", "zip", "enc"]),
                SCALARS | st.sampled_from([*ALGORITHMS, "none", "a", "b", "c", "d"]),
                min_size=1,
            )
        )
    return f"{b64(json.dumps(header))}.{b64(json.dumps(claims))}.{parts[2]}"


def _text(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@settings(max_examples=500)
@given(mutations())
def test_no_change_makes_another_user(token: str) -> None:
    """Whatever is done to a signed token, it names the user that was signed, or nobody."""
    assert found(token) in ("acme", *Cause)


@given(
    st.sampled_from([(OTHER_RSA, "RS256"), (OTHER_RSA, "PS384"), (SECRET + b"x", "HS256"), (SET, "HS512")]),
    st.dictionaries(st.text(max_size=5), SCALARS, max_size=4),
    st.sampled_from([None, "a", "b", "c", "d", "e", ""]),
)
def test_a_foreign_signature_is_never_a_user(key: Any, claims: dict[str, Any], kid: str | None) -> None:
    """By another key, and by the public keys themselves as a secret: whatever claims and `kid` say."""
    token = sign(key[0], json.dumps({"sub": "acme"} | claims), key[1], kid)
    assert isinstance(found(token), Cause)


@given(st.text(max_size=60) | st.lists(st.text(max_size=20), min_size=3, max_size=5).map(".".join))
def test_any_text_is_survived(text: str) -> None:
    """A text is refused, with a cause, the same each time."""
    answer = found(text)
    assert isinstance(answer, Cause)
    assert found(text) is answer


JSON = st.recursive(SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below))


@given(st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iss", "aud", "x"]), JSON), st.integers(0, 2**40))
def test_any_signed_claims_are_survived(claims: dict[str, Any], at: int) -> None:
    """A good signature does not make sense of claims: the user is a clean text, or there is none."""
    answer = found(sign(SECRET, json.dumps(claims), "HS256", "d"), at)
    if not isinstance(answer, Cause):
        assert answer == answer.strip() != ""
        assert len(answer) <= 500


@given(st.text(max_size=80) | JSON.map(json.dumps), st.sampled_from(["RS256", "HS256"]))
def test_any_header_is_survived(header: str, algorithm: str) -> None:
    """Also under a signature that is right for these very bytes."""
    key = RSA if algorithm == "RS256" else SECRET
    token = sign_text(key, header.encode("utf-8", "replace").decode(), json.dumps(CLAIMS), algorithm)
    assert found(token) in ("acme", *Cause)


@given(st.lists(st.tuples(st.sampled_from(TOKENS), st.sampled_from([0, 59, 60, 61, 10**6])), min_size=1, max_size=8))
def test_memory_changes_no_answer(asked: list[tuple[str, int]]) -> None:
    """In whatever order tokens and times come, each is judged as if it were the first."""
    judge = verifier()
    for token, after in asked:
        at = (AT + after) * 10**9
        assert judge.user(token, at) == verifier().user(token, at)
        assert judge.user(token, at) == ("acme" if after < 60 else Cause.EXPIRED)


@given(mutations())
def test_waiting_ends_after_one_refresh(token: str) -> None:
    """Nobody waits twice: once a refresh that was asked for has ended, the answer is the one that stands."""
    judge = verifier(kept=False)
    try:
        first = judge.user(token, AT * 10**9)
    except Unavailable:
        judge._ring.end(judge._ring.begin())
        assert judge.user(token, AT * 10**9) == found(token)
    else:
        assert first == found(token)


@given(st.data())
def test_any_bytes_are_keys_or_explained(data: st.DataObject) -> None:
    """A key set with anything in it is read, or refused with a sentence; nothing else is raised."""
    members = st.sampled_from(["kty", "kid", "use", "alg", "key_ops", "n", "e", "x", "y", "k", "crv", "d"])
    values = JSON | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "AQAB", "verify", ["verify"]])
    genuine = st.sampled_from([jwk(key, kid) for key, _, kid in KEYS])
    key = st.builds(lambda base, more: base | more, genuine | st.just({}), st.dictionaries(members, values))
    content = data.draw(st.binary(max_size=50) | st.lists(key | JSON, max_size=3).map(lambda keys: key_set(*keys)))
    said = "keys "
    try:
        keys = read_key_set(content, "keys").keys
    except ValueError as error:
        keys, said = (), str(error)
    assert keys or len(said) > len("keys ")
    assert said.startswith("keys ")


@given(st.lists(st.text(max_size=30) | st.none() | st.binary(max_size=5), max_size=3), st.text(max_size=5))
def test_any_cookies_are_read(headers: list[Any], name: str) -> None:
    """Whatever was captured, the answer is a list of texts, with None where a cookie may be hidden."""
    assert all(value is None or isinstance(value, str) for value in cookie_values(headers, name))


@given(st.dictionaries(st.text("abcXYZ-_", min_size=1, max_size=5), st.text('abc="0 ', max_size=6).map(str.strip)))
def test_cookies_that_were_set_are_found(cookies: dict[str, str]) -> None:
    """Each by its own name and with its own value, among all others."""
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    for name, value in cookies.items():
        quoted = len(value) > 1 and value[0] == value[-1] == '"'
        assert cookie_values([header], name) == [value[1:-1] if quoted else value]
