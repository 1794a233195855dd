"""The contract's tables of policy keys and of user sources, row by row, seen from outside."""

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from outside import EXAMPLE, changed, command, export, outcome, policy, preview_of, request, span, user

SECRET = "a secret of sixty-four bytes, as RFC 7518 wants it for SHA-512.."
OLD = int(time.time()) - 90 * 86_400


def validated(tmp_path: Path, *policies: dict[str, Any]) -> tuple[int, str]:
    """What `validate` says about these policies."""
    file = tmp_path / "usageflow.yaml"
    text = changed(
        EXAMPLE, processors__usage_policy__policies=list(policies), exporters__stripe_meter__api_key="sk_test_1"
    )
    file.write_text(text)
    result = command("validate", "--config", file)
    return result.status, result.err


@pytest.mark.parametrize(
    ("name", "right"),
    [("chat", True), ("a.b-c_9", True), ("Chat", False), ("a b", False), ("", False), ("a/b", False), ("a\n", False)],
)
def test_name(name: str, right: bool, tmp_path: Path) -> None:
    """`name`: unique, `[a-z0-9_.-]+`, required."""
    status, said = validated(tmp_path, policy(name=name))
    assert (status, "policies::0::name" in said) == ((0, False) if right else (1, True))


def test_names_are_unique(tmp_path: Path) -> None:
    """`name`: unique."""
    status, said = validated(tmp_path, policy(), policy(event_name="other"))
    assert (status, "policies::1::name" in said) == (1, True)


@pytest.mark.parametrize("key", ["name", "endpoint", "user", "customer", "event_name"])
def test_required_keys(key: str, tmp_path: Path) -> None:
    """`name`, `endpoint`, `user`, `customer` and `event_name` are required."""
    without = {name: one for name, one in policy().items() if name != key}
    status, said = validated(tmp_path, without)
    assert (status, f"policies::0::{key}" in said) == (1, True)


@pytest.mark.parametrize(
    ("endpoint", "right"),
    [
        ("GET /", True),
        ("get /a", True),
        (["GET /a", "POST /b"], True),
        ("* /a/*/b", True),
        ("GET|POST /a/:b/{c}/**", True),
        ("GET /a/*rest", True),
        ("/a", False),
        ("GET a", False),
        ("GET", False),
        ("GET /a/**/b", False),
        ("GET /a?b=c", False),
        ("GET https://example.com/a", False),
        ([], False),
        ("", False),
    ],
)
def test_endpoint_forms(endpoint: object, right: bool, tmp_path: Path) -> None:
    """One or a list of `METHOD /path`; METHOD `*` or `GET|POST`; segments `:name`, `{name}`, `*`, `**`, `*rest`."""
    status, said = validated(tmp_path, policy(endpoint=endpoint))
    assert (status, "policies::0::endpoint" in said) == ((0, False) if right else (1, True))


def test_methods() -> None:
    """METHOD may be `*` or `GET|POST`; a request without a method is under `*` only."""
    for method, endpoint, fits in [
        ("POST", "GET|POST /chat", True),
        ("PUT", "GET|POST /chat", False),
        ("HEAD", "GET /chat", False),
        ("PUT", "* /chat", True),
        ("post", "POST /chat", True),
    ]:
        assert (outcome(request(method=method), endpoint=endpoint) == "acme=1") is fits
    other = request(method="_OTHER", http__request__method_original="PURGE")
    assert outcome(other, endpoint="PURGE /chat") == "acme=1"
    nameless = request()
    del nameless["http.request.method"]
    assert outcome(nameless, endpoint="* /chat") == "acme=1"
    assert outcome(nameless, endpoint="POST /chat") == "unmatched"


def test_one_segment() -> None:
    """`:name`, `{name}` and `*` are one segment; a list of endpoints is tried as a whole."""
    for one in (":id", "{id}", "*"):
        assert outcome(request("/a/x/b"), endpoint=f"POST /a/{one}/b") == "acme=1"
        assert outcome(request("/a/x/y/b"), endpoint=f"POST /a/{one}/b") == "unmatched"
        assert outcome(request("/a/b"), endpoint=f"POST /a/{one}/b") == "unmatched"
    assert outcome(request("/b"), endpoint=["GET /a", "POST /b"]) == "acme=1"


def test_match_service_and_scope() -> None:
    """`match` narrows: `service` (service.name, a string or list), `scope` (instrumentation scope name, likewise)."""
    for service, scope, fits in [("shop", "flask", True), ("desk", "flask", True), ("x", "flask", False)]:
        told = preview_of(
            export(span(request()), service=service, scope=scope),
            [policy(match={"service": ["shop", "desk"], "scope": "flask"})],
        )
        assert bool(told["usage"]) is fits
    told = preview_of(export(span(request()), scope="django"), [policy(match={"scope": "flask"})])
    assert told["unmatched_requests"] == 1


@pytest.mark.parametrize(
    ("rule", "billed"),
    [
        ("2xx", {200, 204, 299}),
        ("404", {404}),
        (404, {404}),
        (["2xx", "3xx"], {200, 204, 299, 301}),
        ("any", {100, 200, 204, 299, 301, 404, 503}),
    ],
)
def test_status(rule: object, billed: set[int]) -> None:
    """Which HTTP statuses are billed: `2xx`, `404`, `[2xx, 3xx]`, `any`."""
    statuses = [100, 200, 204, 299, 301, 404, 503]
    told = preview_of(
        export(*(span(request(status=status, user=str(status))) for status in statuses)), [policy(status=rule)]
    )
    assert {int(line["user"]) for line in told["usage"]} == billed


def test_status_is_2xx_by_default() -> None:
    """`status`: default `2xx`; a status in text counts, too."""
    assert outcome(request(status="201")) == "acme=1"
    assert outcome(request(status=302)) == "status"


def test_users_are_tried_in_order() -> None:
    """`user`: one source, or a list tried in order."""
    sources = [{"header": "x-account-id"}, {"metadata": "enduser.id"}]
    assert user(request(user="acme", enduser__id="zoe"), sources) == "acme"
    assert user(request(user="[REDACTED]", enduser__id="zoe"), sources) == "zoe"
    assert user(request(user=None), sources) is None


def test_customer() -> None:
    """`metadata_field: NAME`, or `id: true` when the user already is a Stripe customer id: then it is null."""
    told = preview_of(export(span(request(user="cus_1"))), [policy(customer={"id": True})])
    assert (told["usage"][0]["metadata_field"], told["usage"][0]["user"]) == (None, "cus_1")
    assert preview_of(export(span(request())), [policy()])["usage"][0]["metadata_field"] == "account_id"


@pytest.mark.parametrize("customer", [{}, {"id": False}, {"id": True, "metadata_field": "a"}, {"name": "a"}, "id"])
def test_wrong_customers(customer: object, tmp_path: Path) -> None:
    """One of the two has to be there."""
    status, said = validated(tmp_path, policy(customer=customer))
    assert (status, "policies::0::customer" in said) == (1, True)


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (None, "acme=1"),
        (3, "acme=3"),
        (0.25, "acme=0.25"),
        ({"attribute": "tokens.in"}, "acme=10"),
        ({"attributes": ["tokens.in", "tokens.out"]}, "acme=30.5"),
        ({"attributes": ["tokens.in", "absent"]}, "bad_quantity"),
        ({"attribute": "absent"}, "bad_quantity"),
        ({"attribute": "negative"}, "bad_quantity"),
    ],
)
def test_quantity(quantity: object, expected: str) -> None:
    """A number; `{attribute: KEY}`; `{attributes: [...]}` summed; a missing or negative one is quarantined; `1`."""
    keys = {} if quantity is None else {"quantity": quantity}
    assert outcome(request(tokens__in=10, tokens__out=20.5, negative=-3), **keys) == expected


def test_quantities_are_summed_exactly() -> None:
    """Quantities are decimal strings: a hundred times 0.1 is 10."""
    spans = [span(request(n=0.1)) for _ in range(100)] + [span(request(n=10**15))]
    told = preview_of(export(*spans), [policy(quantity={"attribute": "n"})])
    assert told["usage"][0]["quantity"] == "1000000000000010"


def test_a_request_is_billed_by_every_policy_that_matches_it() -> None:
    """A request is billed once by every policy that matches it, so one request can feed several meters."""
    tokens = policy(name="tokens", event_name="tokens", quantity={"attribute": "n"})
    told = preview_of(export(span(request(n=7))), [policy(), tokens])
    assert [(line["event_name"], line["quantity"]) for line in told["usage"]] == [
        ("api_request", "1"),
        ("tokens", "7"),
    ]


def test_payload_and_account_are_keys(tmp_path: Path) -> None:
    """`payload`: further keys for the meter event, from attributes; `account`: the Stripe connected account."""
    keys = {"payload": {"model": {"attribute": "gen_ai.request.model"}}, "account": "acct_1"}
    assert validated(tmp_path, policy(**keys)) == (0, "")


@pytest.mark.parametrize("key", ["http.request.header.x-account-id", "http.request.header.x_account_id"])
def test_header(key: str) -> None:
    """`header: x-account-id`, in both spellings, in one string or a list of one."""
    for value in ("acme", ["acme"]):
        assert user(request(user=None) | {key: value}, {"header": "X-Account-ID"}) == "acme"
    assert user(request(user=None), {"header": "x-account-id"}) is None


def test_api_key() -> None:
    """Only the hex digest leaves the process; the digest is of the token without its scheme."""
    digest = hashlib.sha256(b"sk-1").hexdigest()
    bearer = request() | {"http.request.header.authorization": ["Bearer sk-1"]}
    plain = request() | {"http.request.header.x-api-key": ["sk-1"]}
    assert user(plain, {"api_key": {"header": "x-api-key"}}) == digest
    assert user(bearer, {"api_key": {"header": "authorization", "scheme": "bearer"}}) == digest
    assert user(request(url__query="key=sk-1"), {"api_key": {"query": "key"}}) == digest
    assert user(plain, {"api_key": {"header": "x-api-key", "hash": "none"}}) == "sk-1"
    keyed = {"header": "x-api-key", "hash": "hmac-sha256", "secret": SECRET}
    assert user(plain, {"api_key": keyed}) == hmac.digest(SECRET.encode(), b"sk-1", "sha256").hex()
    basic = request() | {"http.request.header.authorization": ["Basic sk-1"]}
    assert user(basic, {"api_key": {"header": "authorization", "scheme": "bearer"}}) is None
    hidden = request() | {"http.request.header.authorization": ["Bearer [REDACTED]"]}
    assert user(hidden, {"api_key": {"header": "authorization", "scheme": "bearer"}}) is None


@pytest.mark.parametrize(
    "source",
    [
        {"api_key": {"header": "x", "hash": "hmac-sha256"}},
        {"api_key": {"header": "x", "hash": "md5"}},
        {"api_key": {}},
        {"api_key": {"header": "x"}, "hash": "none"},
        {"jwt": {"claim": "sub"}},
        {"jwt": {"claim": "sub", "verify": {}}},
        {"jwt": {"claim": "sub", "verify": {"secret": SECRET, "algorithms": ["RS256"]}}},
        {"jwt": {"claim": "sub", "verify": {"secret": SECRET, "algorithms": ["none"]}}},
        {"path": "id"},
        {"metadata": "a", "scope": "process"},
        {"heder": "x"},
        {},
        [],
        "x-account-id",
    ],
    ids=json.dumps,
)
def test_wrong_sources(source: object, tmp_path: Path) -> None:
    """`hash` and `secret` stand inside `api_key`; `verify` must be given; a path parameter is in the endpoint."""
    status, said = validated(tmp_path, policy(user=source))
    assert (status, "policies::0::user" in said) == (1, True)


def bearer(token: str) -> dict[str, Any]:
    """A request with this token."""
    return request() | {"http.request.header.authorization": [f"Bearer {token}"]}


def test_jwt_without_verification() -> None:
    """`verify: none` reads the claim and judges nothing, an expired token included; nested claims as `org.tenant`."""
    token = jwt.encode({"sub": "acme", "org": {"tenant": "t1"}, "exp": OLD}, "x" * 32)
    assert user(bearer(token), {"jwt": {"claim": "sub", "verify": "none"}}) == "acme"
    assert user(bearer(token), {"jwt": {"claim": "org.tenant", "verify": "none"}}) == "t1"
    assert user(bearer(token), {"jwt": {"claim": "absent", "verify": "none"}}) is None
    assert user(bearer("not.a.token"), {"jwt": {"claim": "sub", "verify": "none"}}) is None
    other = request() | {"http.request.header.x-token": [f"Token {token}"]}
    assert user(other, {"jwt": {"claim": "sub", "header": "x-token", "scheme": "token", "verify": "none"}}) == "acme"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_jwt_secret(algorithm: str) -> None:
    """A JWT `secret` alone allows HS256, HS384 and HS512."""
    token = jwt.encode({"sub": "acme"}, SECRET, algorithm)
    source = {"jwt": {"claim": "sub", "verify": {"secret": SECRET}}}
    assert user(bearer(token), source) == "acme"
    assert user(bearer(token[:-4] + "AAAA"), source) is None
    assert user(bearer(jwt.encode({"sub": "acme"}, None, "none")), source) is None
    source["jwt"]["verify"] = {"secret": SECRET, "algorithms": ["HS256"]}
    assert (user(bearer(token), source) == "acme") is (algorithm == "HS256")


def test_jwt_claims_are_judged() -> None:
    """`issuer`, `audience` and `leeway`; a token that had expired by the request is nobody."""
    at = 1_790_000_000
    for claims, more, found in [
        ({"iss": "a"}, {"issuer": "a"}, True),
        ({"iss": "b"}, {"issuer": "a"}, False),
        ({}, {"issuer": "a"}, False),
        ({"aud": ["x", "y"]}, {"audience": "y"}, True),
        ({"aud": "z"}, {"audience": "y"}, False),
        ({"exp": at + 60}, {}, True),
        ({"exp": at - 60}, {}, False),
        ({"exp": at - 60}, {"leeway": "2m"}, True),
        ({"nbf": at + 60}, {}, False),
    ]:
        token = jwt.encode({"sub": "acme", **claims}, SECRET)
        source = {"jwt": {"claim": "sub", "verify": {"secret": SECRET, **more}}}
        assert (user(bearer(token), source) == "acme") is found, (claims, more)


def test_jwt_public_key_file(tmp_path: Path) -> None:
    """`public_key_file`: a key in PEM; a signature by its text as a secret is refused."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    source = {"jwt": {"claim": "sub", "verify": {"public_key_file": str(tmp_path / "key.pem")}}}
    assert user(bearer(jwt.encode({"sub": "acme"}, key, "ES256")), source) == "acme"
    header, claims = "eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiJhY21lIn0"
    forged = jwt.utils.base64url_encode(hmac.digest(pem, f"{header}.{claims}".encode(), "sha256")).decode()
    assert user(bearer(f"{header}.{claims}.{forged}"), source) is None


def test_path() -> None:
    """`path: id`: a path parameter, decoded."""
    for segment in (":id", "{id}"):
        attributes = request("/users/a%2Fb/orders")
        assert user(attributes, {"path": "id"}, endpoint=f"POST /users/{segment}/orders") == "a/b"
    assert user(request("/files/a/b"), {"path": "rest"}, endpoint="POST /files/*rest") == "a/b"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("user.account_id", '{"user": {"account_id": 5}}', "5"),
        ("ids.0", '{"ids": ["acme", "x"]}', "acme"),
        ("user", '{"user": {"account_id": 5}}', None),
        ("user", '{"user": null}', None),
        ("user", '{"user": "a", "user": "b"}', None),
        ("user", "user=acme", None),
    ],
)
def test_body(path: str, body: str, expected: str | None) -> None:
    """`body: user.account_id`: a JSON path into the captured body attribute."""
    assert user(request(http__request__body__content=body), {"body": path}) == expected


def test_metadata() -> None:
    """`metadata: enduser.id`: span attribute, then resource attribute; `scope: span|resource` narrows."""
    both = {"resource": {"enduser.id": "of-resource"}}
    on_span = request(enduser__id="of-span")
    assert user(on_span, {"metadata": "enduser.id"}, **both) == "of-span"
    assert user(request(), {"metadata": "enduser.id"}, **both) == "of-resource"
    assert user(on_span, {"metadata": "enduser.id", "scope": "resource"}, **both) == "of-resource"
    assert user(request(), {"metadata": "enduser.id", "scope": "span"}, **both) is None


@pytest.mark.parametrize("text", ["[REDACTED]", "REDACTED", "Redacted", "****", "-", "", " ", " - "])
def test_placeholders(text: str) -> None:
    """A value that an instrumentation has redacted or a gateway has filled in is no user."""
    assert user(request(user=text), {"header": "x-account-id"}) is None


def test_placeholders_extend_the_list() -> None:
    """`processors::usage_policy::placeholders` extends the list."""
    spans = [span(request(user=one)) for one in ("anonymous", "-", "acme")]
    told = preview_of(export(*spans), [policy()], placeholders=["anonymous"])
    assert [line["user"] for line in told["usage"]] == ["acme"]
    assert told["quarantined"] == [{"policy": "chat", "reason": "no_user", "requests": 2}]


def test_exclude_scopes() -> None:
    """`processors::usage_policy::exclude_scopes` names instrumentation scopes whose spans are never requests."""
    data = export(span(request()), scope="fastapi") + export(
        span(request()), scope="opentelemetry.instrumentation.fastapi"
    )
    assert preview_of(data, [policy()])["requests"] == 2
    told = preview_of(data, [policy()], exclude_scopes=["fastapi"])
    assert (told["spans"], told["requests"], told["usage"][0]["requests"]) == (2, 1, 1)
