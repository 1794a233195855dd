"""Users from JSON Web Tokens: what is verified, what is refused, and what `none` means."""

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import ValidationError
from span_builder import NOW, engine, http, only, payload, policy, span, user_of

from otel_usageflow.policy.jwt_keys import public_key_file, secret_key

SECRET = "a secret of more than sixty-four bytes, so that no algorithm finds it too short ......"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
AT = NOW // 10**9 - 2
"""The start of the test's request, in seconds."""


def bearer(claims: Any, key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> dict[str, Any]:
    token = jwt.encode(claims, key, algorithm=algorithm, headers=headers)
    return {"http.request.header.authorization": [f"Bearer {token}"]}


def rule(claim: str = "sub", verify: Any = None, **more: Any) -> dict[str, Any]:
    return {"jwt": {"claim": claim, "verify": {"secret": SECRET} if verify is None else verify, **more}}


def pem_file(folder: Path, key: Any) -> str:
    file = folder / "key.pem"
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(file)


@pytest.mark.parametrize(
    ("claim", "claims", "user"),
    [
        ("sub", {"sub": "acme"}, "acme"),
        ("org.tenant", {"org": {"tenant": 7}}, "7"),
        ("https://example.com/org", {"https://example.com/org": "acme"}, "acme"),
        ("https://example.com/org.tenant", {"https://example.com/org": {"tenant": "acme"}}, "acme"),
        ("a.b", {"a.b": "acme", "a": {"b": "globex"}}, None),
        ("aud", {"aud": ["acme"]}, "acme"),
        ("aud", {"aud": ["acme", "globex"]}, None),
        ("sub", {"sub": ""}, None),
        ("sub", {"sub": "-"}, None),
        ("sub", {"sub": 1.5}, None),
        ("sub", {"other": "acme"}, None),
        ("orgs.0", {"orgs": ["acme", "globex"]}, "acme"),
    ],
)
def test_a_claim_is_the_user(claim: str, claims: Any, user: str | None) -> None:
    """Claims are read by name or by path; their values follow the rules of all users."""
    token = jwt.encode({key: value for key, value in claims.items() if key != "sub"}, SECRET)
    if "sub" in claims:
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        token = f"{token.partition('.')[0]}.{body}.c2ln"
    attributes = {"http.request.header.authorization": f"Bearer {token}"}
    assert user_of(attributes, rule(claim, "none")) == user
    if "sub" not in claims:
        assert user_of(attributes, rule(claim)) == user


@pytest.mark.parametrize(
    ("claims", "more", "user"),
    [
        ({}, {}, "acme"),
        ({"exp": AT + 1}, {}, "acme"),
        ({"exp": AT}, {}, None),
        ({"exp": AT - 9}, {"leeway": "10s"}, "acme"),
        ({"exp": AT - 10}, {"leeway": "10s"}, None),
        ({"nbf": AT}, {}, "acme"),
        ({"nbf": AT + 1}, {}, None),
        ({"nbf": AT + 1}, {"leeway": "1s"}, "acme"),
        ({"exp": "never"}, {}, None),
        ({"exp": True}, {}, None),
        ({"iss": "us"}, {"issuer": "us"}, "acme"),
        ({"iss": "us"}, {"issuer": ["them", "us"]}, "acme"),
        ({"iss": "you"}, {"issuer": "us"}, None),
        ({}, {"issuer": "us"}, None),
        ({"aud": "api"}, {"audience": "api"}, "acme"),
        ({"aud": ["web", "api"]}, {"audience": ["api"]}, "acme"),
        ({"aud": "web"}, {"audience": "api"}, None),
        ({}, {"audience": "api"}, None),
        ({"aud": "web"}, {}, "acme"),
    ],
)
def test_a_verified_token_must_be_in_force_when_the_request_came(claims: Any, more: Any, user: str | None) -> None:
    """Expiry is judged at the request's time, years from ours; issuer and audience where they are asked for."""
    # Written by hand, because PyJWT refuses to write some of these.
    payload_part = base64.urlsafe_b64encode(json.dumps({"sub": "acme", **claims}).encode()).decode().rstrip("=")
    head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(f"{head}.{payload_part}".encode(), algorithm.prepare_key(SECRET))
    token = f"{head}.{payload_part}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
    attributes = {"http.request.header.authorization": f"Bearer {token}"}
    assert user_of(attributes, rule(verify={"secret": SECRET, **more})) == user


def test_the_end_of_the_request_counts_where_it_has_no_start() -> None:
    """A span without a plausible start does not make an expired token valid."""
    request = span(http() | bearer({"sub": "acme", "exp": AT}), start=0)
    assert only(engine(policy(user=rule())).evaluate(payload(request), NOW)).user is None


def test_none_judges_nothing() -> None:
    """`verify: none` reads the claim of expired, unsigned and wrongly signed tokens."""
    for token in (
        bearer({"sub": "acme", "exp": 1}),
        bearer({"sub": "acme"}, "x" * 64),
        bearer({"sub": "acme"}, None, "none"),
    ):
        assert user_of(token, rule(verify="none")) == "acme"


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c", "a.b.c.d", ".e30.", "e30.e30.e30", "x" * 20_000, "é.é.é", "\udcff"]
)
@pytest.mark.parametrize("verify", ["none", {"secret": SECRET}])
def test_what_is_no_token_is_nobody(token: str, verify: Any) -> None:
    """Any text in the header is survived."""
    raw = token.encode("utf-8", "surrogateescape")
    assert user_of({"http.request.header.authorization": b"Bearer " + raw}, rule(verify=verify)) is None


def test_forged_tokens_are_nobody(tmp_path: Path) -> None:
    """Another key, no signature, a cut or changed token, key confusion, unknown extensions: no user."""
    public = pem_file(tmp_path, RSA)
    by_secret, by_rsa = {"secret": SECRET}, {"public_key_file": public}
    good = bearer({"sub": "acme"})["http.request.header.authorization"][0]
    head, body, signature = good.split(".")
    other = base64.urlsafe_b64encode(b'{"sub":"globex"}').decode().rstrip("=")
    confused = jwt.api_jws.PyJWS().get_algorithm_by_name("HS256")
    hs = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
    forged = (
        base64.urlsafe_b64encode(confused.sign(f"{hs}.{other}".encode(), Path(public).read_bytes()))
        .decode()
        .rstrip("=")
    )
    cases: list[tuple[Any, dict[str, Any]]] = [
        (by_secret, bearer({"sub": "acme"}, "y" * 64)),
        (by_secret, bearer({"sub": "acme"}, None, "none")),
        (by_secret, bearer({"sub": "acme"}, RSA, "RS256")),
        (by_rsa, bearer({"sub": "acme"})),
        (by_rsa, {"http.request.header.authorization": f"Bearer {hs}.{other}.{forged}"}),
        (by_secret, {"http.request.header.authorization": f"{head}.{other}.{signature}"}),
        (by_secret, {"http.request.header.authorization": f"{head}.{body}."}),
        (by_secret, {"http.request.header.authorization": good[:-2]}),
        (by_secret, bearer({"sub": "acme"}, crit=["exotic"], exotic=1)),
        ({"secret": SECRET, "algorithms": ["HS512"]}, bearer({"sub": "acme"})),
    ]
    for verify, attributes in cases:
        assert user_of(attributes, rule(verify=verify)) is None
    assert user_of({"http.request.header.authorization": good}, rule(verify=by_secret)) == "acme"


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [(RSA, ["RS256", "RS512", "PS256"]), (P256, ["ES256"]), (ED, ["EdDSA"])],
    ids=["RSA", "EC", "Ed25519"],
)
def test_a_public_key_verifies_by_its_own_algorithms(key: Any, algorithms: list[str], tmp_path: Path) -> None:
    """Each kind of key allows the algorithms of its kind and no others."""
    verify = {"public_key_file": pem_file(tmp_path, key)}
    for algorithm in algorithms:
        assert user_of(bearer({"sub": "acme"}, key, algorithm), rule(verify=verify)) == "acme"
    for other, algorithm in ((RSA, "RS256"), (P256, "ES256"), (ED, "EdDSA")):
        if other is not key:
            assert user_of(bearer({"sub": "acme"}, other, algorithm), rule(verify=verify)) is None


@pytest.mark.parametrize(
    ("more", "attribute", "finds"),
    [
        ({}, "Bearer TOKEN", True),
        ({}, "bearer TOKEN", True),
        ({}, "TOKEN", False),
        ({}, "Basic TOKEN", False),
        ({"scheme": "jwt"}, "JWT TOKEN", True),
        ({"scheme": ""}, "TOKEN", True),
    ],
)
def test_the_scheme_stands_before_the_token(more: Any, attribute: str, finds: bool) -> None:
    """Bearer by default, in any case; `scheme` names another, or none."""
    token = jwt.encode({"sub": "acme"}, SECRET)
    attributes = {"http.request.header.authorization": attribute.replace("TOKEN", token)}
    assert user_of(attributes, rule(**more)) == ("acme" if finds else None)


@pytest.mark.parametrize("prefix", ["", "Bearer "])
def test_another_header_may_hold_the_bare_token(prefix: str) -> None:
    """In a header of its own a token is found with and without the default scheme."""
    token = jwt.encode({"sub": "acme"}, SECRET)
    assert user_of({"http.request.header.x-jwt": prefix + token}, rule(header="X-Jwt")) == "acme"


def test_key_files_that_cannot_be_used_are_explained(tmp_path: Path) -> None:
    """A missing file, a private key, no key at all, or an algorithm that the key does not allow: said at start."""
    private = tmp_path / "private.pem"
    private.write_bytes(RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    public = pem_file(tmp_path, RSA)
    for path, algorithms, says in (
        (tmp_path / "absent.pem", None, "cannot be read: No such file"),
        (private, None, "holds a private key"),
        (empty, None, "holds no public key in PEM"),
        (public, ["ES256"], "does not allow the algorithm ES256; it allows RS256"),
    ):
        with pytest.raises(ValueError, match=says):
            public_key_file(str(path), algorithms)
    with pytest.raises(ValueError, match="name its file in public_key_file"):
        secret_key(Path(public).read_text())


@pytest.mark.parametrize(
    ("verify", "says"),
    [
        ({"secret": "s", "algorithms": ["none"]}, "none is not a signature"),
        ({"secret": "s", "algorithms": ["RS256"]}, "a secret does not allow the algorithm RS256"),
        ({"public_key_file": "k", "algorithms": ["HS256"]}, "a public key does not allow the algorithm HS256"),
        ({"secret": "s", "algorithms": "HS265"}, "did you mean HS256"),
        ({"secret": "s", "public_key_file": "k"}, "needs one of jwks_url, jwks_file, public_key_file or secret"),
        ({}, "needs one of jwks_url, jwks_file, public_key_file or secret"),
        ({"jwks_url": "https://x", "jwks_file": "k"}, "needs one of jwks_url"),
        ({"jwks_url": "https://x", "algorithms": "HS256"}, "a public key does not allow the algorithm HS256"),
        ({"jwks_url": "http://id.example.com/keys"}, "must begin with https:// unless it is on this machine"),
        ({"jwks_url": "http://10.0.0.1/keys"}, "must begin with https:// unless it is on this machine"),
        ({"jwks_url": "http://localhost.example.com/"}, "must begin with https:// unless it is on this machine"),
        ({"jwks_url": "https://u:p@id.example.com/keys"}, "must not hold a user or password"),
        ({"jwks_url": "https://id.example.com/keys#a"}, "must not hold a fragment"),
        ({"jwks_url": "file:///etc/keys"}, "is not the address of a key set"),
        ({"jwks_url": "id.example.com/keys"}, "is not the address of a key set"),
        ({"jwks_url": "https://[::1/keys"}, "is not the address of a key set"),
        ({"jwks_url": "https://a:b/keys"}, "is not the address of a key set"),
        (None, "needs one of jwks_url, jwks_file, public_key_file or secret"),
        ("nono", "must say how tokens are verified"),
    ],
)
def test_a_verification_that_makes_no_sense_is_refused(verify: Any, says: str) -> None:
    """Algorithms are pinned to what the key allows, and `verify` has to be written out."""
    with pytest.raises(ValidationError, match=says):
        policy(user={"jwt": {"claim": "sub", "verify": verify}})
    with pytest.raises(ValidationError, match="Field required"):
        policy(user={"jwt": {"claim": "sub"}})
