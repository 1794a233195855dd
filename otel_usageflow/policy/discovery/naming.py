"""What the name of an attribute, a header or a parameter says about whether its value could be a user."""

import re
from typing import Final

_STANDARD: Final = (
    "http.",
    "url.",
    "net.",
    "network.",
    "server.",
    "client.",
    "user_agent.",
    "thread.",
    "code.",
    "process.",
    "otel.",
    "telemetry.",
    "rpc.",
    "db.",
    "messaging.",
    "error.",
    "exception.",
    "peer.",
    "host.",
    "os.",
    "container.",
    "k8s.",
    "cloud.",
    "service.",
    "faas.",
    "aws.",
    "gcp.",
    "azure.",
    "asgi.",
    "aspnetcore.",
    "express.",
    "fastify.",
    "hapi.",
    "koa.",
    "next.",
    "tls.",
    "zone.",
    "component",
    "upstream_",
    "node_id",
    "downstream_",
    "redaction.",
    "deployment.",
    "gen_ai.",
    "graphql.",
)
_HEADERS: Final = re.compile(
    r"accept.*|access-control-.*|cache-control|connection|content-.*|date|dnt|expect|forwarded|host|if-.*|keep-alive|"
    r"origin|pragma|priority|range|referer|sec-.*|te|trailer|transfer-encoding|upgrade.*|user-agent|via|"
    r"traceparent|tracestate|b3|x-b3-.*|x-amzn?-.*|x-cloud-trace-context|x-forwarded-(for|host|port|proto|server|prefix)|"
    r"x-real-ip|x-envoy-.*|x-request-(id|start)|x-correlation-id|request-id|correlation-id|x-requested-with|cf-.*"
)
_WHO: Final = frozenset(
    """
    account acct accountid customer customerid cust enduser user userid username uid tenant tenantid org
    orgid organization organisation client clientid workspace team company subscriber subscription project
    partner member merchant consumer principal subject sub owner azp
    """.split()  # noqa: SIM905  (a list would be one word a line)
)
_WHAT: Final = frozenset(
    """
    id ids identifier uuid guid key name number no nr slug ref code email login x my app http auth api
    current external internal uid stripe billing the request
    """.split()  # noqa: SIM905  (a list would be one word a line)
)
_KEYS: Final = re.compile(
    r"(x-)?(.*-)?(api-?key|apikey|access-?key|access-?token|api-?token|auth-?token|auth-?key|token|secret|key)"
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def is_standard(name: str) -> bool:
    """Whether an attribute belongs to the conventions, and is nobody."""
    return name.startswith(_STANDARD)


def is_common_header(name: str) -> bool:
    """Whether a header, in lower case with `-`, is one of HTTP's own or of proxies."""
    return _HEADERS.fullmatch(name) is not None


def names_user(name: str) -> bool:
    """Whether something of this name holds, by its name, who asked."""
    words = [word for word in re.split(r"[^a-z0-9]+", _CAMEL.sub("-", name).lower()) if word]
    return bool(_WHO.intersection(words)) and _WHO.union(_WHAT).issuperset(words)


def names_key(name: str) -> bool:
    """Whether something of this name holds, by its name, a secret key."""
    return _KEYS.fullmatch(_CAMEL.sub("-", name).lower().replace("_", "-")) is not None
