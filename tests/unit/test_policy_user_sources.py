"""The user sources of other fields: cookies, baggage, certificates, basic authentication, templates, `transform`."""

import base64
import hashlib
from typing import Any

import pytest
from pydantic import ValidationError
from span_builder import judge, only, policy, user_of

from otel_usageflow.processors.usage_policy import FACTORY, UsagePolicyConfig

HEADER = "http.request.header."
X_ID = f"{HEADER}x-id"
XFCC = f"{HEADER}x-forwarded-client-cert"
DIGEST = "9f" * 32
KEY = {"api_key": {"header": "x-id"}}


@pytest.mark.parametrize(
    ("value", "user"),
    [
        ("account=acme", "acme"),
        ("theme=dark; account=acme; lang=de", "acme"),
        ('account="acme"', "acme"),
        ("account=a=b", "a=b"),
        ("account=a%2Fb", "a%2Fb"),
        (" account = acme ", "acme"),
        ("account=acme; account=acme", "acme"),
        ("account=acme; account=globex", None),
        (["account=acme", "theme=dark"], "acme"),
        (["account=acme", "account=globex"], None),
        (["account=acme", "[REDACTED]"], None),
        (["account=acme", None], None),
        ("Account=acme", None),
        ("xaccount=acme", None),
        ("account", None),
        ("account=", None),
        ("account=[REDACTED]", None),
        ('account="-"', None),
        ("[REDACTED]", None),
        (f"account={'x' * 501}", None),
        ("", None),
        (b"account=\xff", None),
    ],
)
def test_cookie(value: Any, user: str | None) -> None:
    """A cookie of one value is the user, as it was sent, without quotes around it."""
    assert user_of({f"{HEADER}cookie": value}, {"cookie": "account"}) == user


@pytest.mark.parametrize(
    ("value", "user"),
    [
        ("account.id=acme", "acme"),
        ("a=b,account.id=acme;ttl=5;secret, c=d", "acme"),
        (" account.id = a%20b%2Cc+d ", "a b,c+d"),
        ("account.id=acme,account.id=acme", "acme"),
        ("account.id=acme,account.id=globex", None),
        (["account.id=acme", "x=y"], "acme"),
        (["account.id=acme", "account.id=globex"], None),
        ("account.id=%ff", None),
        ("account.id=%5BREDACTED%5D", None),
        ("Account.id=acme", None),
        ("account.id", None),
        ("****", None),
    ],
)
def test_baggage(value: Any, user: str | None) -> None:
    """An entry of one value is the user, percent-decoded, without its properties."""
    assert user_of({f"{HEADER}baggage": value}, {"baggage": "account.id"}) == user


def _basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.mark.parametrize(
    ("value", "user"),
    [
        (_basic("acme:secret"), "acme"),
        (_basic("acme:se:cret"), "acme"),
        (_basic("acme:").replace("Basic", "bAsIc"), "acme"),
        (_basic("ä:x"), "ä"),
        ([_basic("acme:a")], "acme"),
        ([_basic("acme:a"), _basic("acme:b")], None),
        (_basic(":secret"), None),
        (_basic("acme"), None),
        (_basic(b"\xff:x"), None),
        (_basic("[REDACTED]:x"), None),
        (_basic("acme:x").replace("Basic", "Bearer"), None),
        ("Basic [REDACTED]", None),
        ("Basic", None),
        ("acme:secret", None),
    ],
)
def test_basic_auth(value: Any, user: str | None) -> None:
    """The part before the first colon is the user; without one nobody is, least of all the password."""
    assert user_of({f"{HEADER}authorization": value}, {"basic_auth": "user"}) == user


@pytest.mark.parametrize(
    ("part", "attributes", "user"),
    [
        ("subject", {"tls.client.subject": "CN=acme,O=Acme"}, "CN=acme,O=Acme"),
        ("common_name", {"tls.client.subject": "O=Acme, CN = acme"}, "acme"),
        ("common_name", {"tls.client.subject": "/O=Acme Inc/CN=acme/x"}, "acme/x"),
        ("common_name", {"tls.client.subject": r"CN=Acme\, Inc\2e \C3\A4+OU=x"}, "Acme, Inc. ä"),
        ("common_name", {"tls.client.subject": 'OU=x;CN="Acme, Inc"'}, "Acme, Inc"),
        ("common_name", {"tls.client.subject": "CN=acme,CN=globex"}, None),
        ("common_name", {"tls.client.subject": "O=Acme"}, None),
        ("common_name", {"tls.client.subject": 'CN="acme'}, None),
        ("common_name", {"tls.client.subject": "[REDACTED]"}, None),
        ("common_name", {"tls.client.subject": "CN=[REDACTED]"}, None),
        ("hash", {"tls.client.hash.sha256": ":".join(["9F"] * 32)}, DIGEST),
        ("hash", {"tls.client.hash.sha256": "9f"}, None),
        (
            "subject",
            {XFCC: f'By=spiffe://proxy;Hash={DIGEST};Subject="CN=acme,O=\\"A\\"";URI=spiffe://a/b'},
            'CN=acme,O="A"',
        ),
        ("common_name", {XFCC: 'Subject="/O=Acme/CN=acme";URI='}, "acme"),
        ("uri", {XFCC: f"By=spiffe://proxy;Hash={DIGEST};URI=spiffe://a/b"}, "spiffe://a/b"),
        ("uri", {XFCC: "uri=spiffe://a/b;URI=spiffe://a/c"}, None),
        ("dns", {XFCC: 'DNS="a.example.com";Hash=x'}, "a.example.com"),
        ("hash", {XFCC: f"Hash={DIGEST}"}, DIGEST),
        ("uri", {XFCC: "URI=spiffe://a/b,URI=spiffe://a/b"}, "spiffe://a/b"),
        ("uri", {XFCC: "URI=spiffe://a/b,URI=spiffe://proxy"}, None),
        ("uri", {XFCC: "URI=spiffe://a/b,Hash=x"}, None),
        ("uri", {XFCC: ["URI=spiffe://a/b", "URI=spiffe://a/c"]}, None),
        ("subject", {XFCC: 'Subject="CN=acme'}, None),
        ("subject", {XFCC: 'Subject=""'}, None),
        ("subject", {XFCC: "[REDACTED]"}, None),
        ("subject", {XFCC: "Subject=****"}, None),
        ("subject", {"tls.client.subject": "CN=one", XFCC: "Subject=CN=two"}, "CN=one"),
        ("subject", {"tls.client.subject": "-", XFCC: "Subject=CN=two"}, "CN=two"),
    ],
)
def test_client_certificate(part: str, attributes: dict[str, Any], user: str | None) -> None:
    """The part of the one certificate that the span, or the proxy before it, tells of."""
    assert user_of(attributes, {"client_certificate": part}) == user


def test_where_the_certificate_is_looked_for() -> None:
    """`via` names one of the places, and `element` one of several proxies."""
    both = {"tls.client.subject": "CN=one", XFCC: "Subject=CN=two,Subject=CN=three"}
    rule = {"client_certificate": "common_name"}
    assert user_of(both, rule | {"via": "tls"}) == "one"
    assert user_of(both, rule | {"via": "xfcc"}) is None
    assert user_of(both, rule | {"via": "xfcc", "element": "first"}) == "two"
    assert user_of(both, rule | {"via": "xfcc", "element": "last"}) == "three"


@pytest.mark.parametrize(
    ("template", "attributes", "user"),
    [
        ("{header:x-org}/{query:project}", {"org": "a", "query": "project=b"}, "a/b"),
        ("org_{header:x-org}", {"org": " a "}, "org_a"),
        ("{{{header:x-org}}}", {"org": "a"}, "{a}"),
        ("{header:x-org}/{query:project}", {"org": "a"}, None),
        ("{header:x-org}/{query:project}", {"org": "a", "query": "project=-"}, None),
        ("{header:x-org}/{query:project}", {"org": "[REDACTED]", "query": "project=b"}, None),
        ("{header:x-org}/{query:project}", {"org": ["a", "c"], "query": "project=b"}, None),
        ("{header:x-org}/{query:project}", {"org": "a/x", "query": "project=b"}, None),
        ("{header:x-org}/{query:project}", {"org": "a", "query": "project=x/b"}, "a/x/b"),
        ("{header:x-org}//{query:project}", {"org": "a/", "query": "project=b"}, None),
        ("{header:x-org}-{query:project}", {"org": "x" * 250, "query": f"project={'y' * 250}"}, None),
        ("{header:x-org} ", {"org": "a"}, "a"),
    ],
)
def test_template(template: str, attributes: dict[str, Any], user: str | None) -> None:
    """All parts joined; where one is nobody, or could be cut in two ways, nobody is."""
    captured = {f"{HEADER}x-org": attributes["org"], "url.query": attributes.get("query", "")}
    assert user_of(captured, {"template": template}) == user


def test_a_template_of_every_plain_source() -> None:
    """Each source that is told by one text may stand in a template, with the attributes that it needs."""
    template = (
        "{path:id}|{header:x-id}|{query:q}|{body:a.b}|{metadata:m}|{cookie:c}|{baggage:b}|{basic_auth:user}"
        "|{client_certificate:common_name}"
    )
    attributes = {
        "http.request.method": "GET",
        "url.path": "/users/1",
        "url.query": "q=3",
        "http.response.status_code": 200,
        X_ID: "2",
        "http.request.body.content": '{"a": {"b": 4}}',
        f"{HEADER}cookie": "c=6",
        f"{HEADER}baggage": "b=7",
        f"{HEADER}authorization": _basic("8:x"),
        "tls.client.subject": "CN=9",
    }
    rule = policy(endpoint="GET /users/:id", user={"template": template})
    record = only(judge(attributes, rule, resource={"m": "5"}))
    assert (record.user, record.source) == ("1|2|3|4|5|6|7|8|9", f"template {template}")


@pytest.mark.parametrize(
    ("steps", "value", "user"),
    [
        ("lower", "ACME", "acme"),
        (["lower"], " ÄCME ", "äcme"),
        ({"strip_prefix": "user:"}, "user:acme", "acme"),
        ({"strip_prefix": "user:"}, "acme", "acme"),
        ({"strip_suffix": "@x"}, "acme @x", "acme"),
        ({"regex": "^user_([0-9]+)$"}, "user_42", "42"),
        ({"regex": "^user_([0-9]+)$"}, "user_", None),
        ({"regex": "id=([^&]+)"}, "id=a&id=a", "a"),
        ({"regex": "id=([^&]+)"}, "id=a&id=b", None),
        ({"regex": "a|(b)"}, "a", None),
        ({"regex": "(é+)"}, "xééy", "éé"),
        (["lower", {"strip_prefix": "org-"}, {"regex": "^([a-z]+)"}], "ORG-Acme-1", "acme"),
        (["lower", {"strip_prefix": "org-"}], "ORG-REDACTED", None),
        ({"strip_prefix": "user:"}, "user:", None),
        ({"strip_prefix": "user:"}, "user: [REDACTED] ", None),
        ({"regex": "user:(.*)"}, "user:****", None),
        ({"regex": "([A-Z]+)"}, "[REDACTED]", None),
        ("lower", ["A", "a"], None),
        ({"regex": "^(.).*$"}, "x" * 501, None),
    ],
)
def test_transform(steps: Any, value: Any, user: str | None) -> None:
    """The steps in order, on a value that is a user already; what comes out is judged again."""
    assert user_of({X_ID: value}, {"header": "x-id", "transform": steps}) == user
    assert user_of({"m": value}, {"metadata": "m", "transform": steps}) == user


def test_a_transform_of_a_template() -> None:
    """It is of the whole."""
    rule = {"template": "{header:x-id}/{header:x-id}", "transform": "lower"}
    assert user_of({X_ID: "A"}, rule) == "a/a"


def test_an_api_key_is_transformed_before_its_digest() -> None:
    """The digest is of what the transform leaves; its own hex digits are not touched."""
    rule = KEY | {"transform": {"regex": "^sk_live_(.+)$"}}
    assert user_of({X_ID: "sk_live_abc"}, rule) == hashlib.sha256(b"abc").hexdigest()
    assert user_of({X_ID: "sk_test_abc"}, rule) is None
    assert user_of({X_ID: "sk_live_[REDACTED]"}, rule) is None
    long = KEY | {"transform": {"strip_prefix": "k"}}
    assert user_of({X_ID: "k" + "x" * 2000}, long) == hashlib.sha256(b"x" * 2000).hexdigest()


def test_a_claim_is_transformed() -> None:
    """The user of a token is its claim, then the transform."""
    claims = base64.urlsafe_b64encode(b'{"sub": "auth0|Acme"}').rstrip(b"=").decode()
    rule = {"jwt": {"claim": "sub", "verify": "none"}, "transform": [{"strip_prefix": "auth0|"}, "lower"]}
    assert user_of({f"{HEADER}authorization": f"Bearer e30.{claims}.x"}, rule) == "acme"


def test_a_list_goes_on_where_a_transform_finds_nobody() -> None:
    """A source whose regular expression does not match is passed over."""
    rule = [{"header": "x-id", "transform": {"regex": "^u([0-9]+)$"}}, {"metadata": "m"}]
    assert user_of({X_ID: "u1", "m": "b"}, rule) == "1"
    assert user_of({X_ID: "x1", "m": "b"}, rule) == "b"


@pytest.mark.parametrize(
    ("user", "place", "says"),
    [
        ({"template": "plain"}, "template", "names no source; write for example {header:x-org}/{path:project}"),
        ({"template": "{heder:x}"}, "template", "did you mean header? (known: baggage, basic_auth"),
        ({"template": "{header}"}, "template", "write {header:NAME}"),
        ({"template": "{header:x y}"}, "template", "{header:x y}: 'x y' is not the name of a header"),
        ({"template": "{header:a}{header:b}"}, "template", "needs a text before {header:b}, such as a slash"),
        ({"template": "{header:a}}"}, "template", "has a brace without its partner; for one that is meant as text"),
        ({"template": "{jwt:sub}"}, "template", "names no source that a template can use"),
        ({"header": "x", "transform": "lowr"}, "transform.0", "did you mean lower?"),
        ({"header": "x", "transform": 5}, "transform.0", "is no transform; write lower"),
        ({"header": "x", "transform": []}, "transform", "the list is empty"),
        ({"header": "x", "transform": {}}, "transform.0", "needs one of strip_prefix"),
        ({"header": "x", "transform": {"strip_prefix": "a", "regex": "(a)"}}, "transform.0", "needs one of"),
        (
            {"header": "x", "transform": {"regex": "("}},
            "transform.0.regex",
            "no regular expression of RE2: missing )",
        ),
        ({"header": "x", "transform": {"regex": "a"}}, "transform.0.regex", "it has 0"),
        ({"header": "x", "transform": {"regex": "(a)\\1"}}, "transform.0.regex", "invalid escape sequence"),
        ({"header": "x", "transform": {"strip_prefx": "a"}}, "transform.0.strip_prefx", "Extra inputs"),
        ({"transform": "lower"}, "", "names no source"),
        ({"baggage": "a b"}, "baggage", "is no key of baggage"),
        ({"basic_auth": "password"}, "basic_auth", "'user'"),
        ({"client_certificate": "cn"}, "client_certificate", "'common_name'"),
        ({"client_certificate": "uri", "via": "tls"}, "", "write via: xfcc"),
        ({"client_certificate": "hash", "via": "tls", "element": "last"}, "", "via: tls reads attributes"),
    ],
)
def test_a_mistake_is_named(user: Any, place: str, says: str) -> None:
    """Each mistake is reported at its path, with what to write instead."""
    with pytest.raises(ValidationError) as caught:
        policy(user=user)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == f"user.0.{place}".rstrip(".")
    assert says in error["msg"]


def test_a_path_parameter_in_a_template_has_to_exist() -> None:
    """A template that reads a parameter which no endpoint has is an error, as the source by itself is."""
    written = {
        "name": "chat",
        "endpoint": "GET /users/:id",
        "user": {"template": "{header:x}/{path:user}"},
        "customer": {"metadata_field": "a"},
        "event_name": "e",
    }
    (problem,) = FACTORY.check(UsagePolicyConfig.model_validate({"policies": [written]}))
    assert problem.path == "policies::0::user::template"
    assert "no endpoint of chat has a parameter user" in problem.message
