"""The plan of the traffic: what is sent to the sample API, and, written beside each request, what it should cost.

This is the demo's own account of the truth. It knows nothing of policies, spans or meter events.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import jwt

from otel_usageflow.demo.cast import (
    ACME,
    GLOBEX,
    HOOLI,
    INITECH,
    JWT_SECRET,
    STARK,
    UMBRELLA,
    UNKNOWN_ACCOUNT,
    Customer,
)

CHAT = "POST /v1/chat/completions"
SEARCH = "GET /v1/search"
REPORT = "POST /v1/reports"
FILE = "GET /v1/files/{org}/{id}"
HEALTH = "GET /healthz"
ENDPOINTS: Mapping[str, str] = {
    CHAT: "header",
    SEARCH: "API key",
    REPORT: "JWT",
    FILE: "path",
    HEALTH: "-",
}
"""Endpoint -> where a policy finds the user there, for people."""

_SEED = 20


@dataclass(frozen=True, slots=True)
class Planned:
    """One request, the answer that is due, and what it should cost.

    `usage` is event name -> quantity; `payer` is who owes it, or None when nobody can be billed for it, and then
    `reason` is why. No usage: the request costs nothing.
    """

    endpoint: str
    method: str
    path: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, object] | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    payer: Customer | None = None
    user: str = ""
    reason: str = ""


Maker = Callable[[random.Random], Planned]


def plan(seed: int = _SEED) -> Iterator[Planned]:
    """An endless sequence of requests, the same every time; the first of each kind come early."""
    dice = random.Random(seed)
    yield from (make(dice) for make, _ in _KINDS)
    makers = [make for make, _ in _KINDS]
    weights = [weight for _, weight in _KINDS]
    while True:
        yield dice.choices(makers, weights)[0](dice)


def _chat(dice: random.Random, user: str, payer: Customer | None, reason: str = "") -> Planned:
    tokens = dice.randint(50, 2_000)
    return Planned(
        CHAT,
        "POST",
        "/v1/chat/completions",
        headers={"x-account-id": user} if user else {},
        json={"tokens": tokens},
        usage={"chat_request": 1, "chat_tokens": tokens},
        payer=payer,
        user=user,
        reason=reason,
    )


def _chat_of(*payers: Customer) -> Maker:
    return lambda dice: _chat(dice, (payer := dice.choice(payers)).account_id, payer)


def _broken_chat(_dice: random.Random) -> Planned:
    headers = {"x-account-id": ACME.account_id}
    return Planned(CHAT, "POST", "/v1/chat/completions", 500, headers, {"tokens": -1})


def _search(dice: random.Random) -> Planned:
    payer = dice.choice((INITECH, INITECH, ACME))
    word = dice.choice(("tea", "milk", "sugar", "lemon"))
    headers = {"x-api-key": payer.api_key}
    usage = {"search_request": 1}
    return Planned(SEARCH, "GET", f"/v1/search?q={word}", headers=headers, usage=usage, payer=payer)


def _vain_search(_dice: random.Random) -> Planned:
    return Planned(SEARCH, "GET", "/v1/search?q=nothing", 404, {"x-api-key": INITECH.api_key})


def _token(tenant: str, secret: str) -> Mapping[str, str]:
    claims = {"sub": "robot", "org": {"tenant": tenant}, "exp": int(time.time()) + 3600}
    return {"authorization": f"Bearer {jwt.encode(claims, secret, algorithm='HS256')}"}


def _report(dice: random.Random) -> Planned:
    payer = dice.choice((UMBRELLA, UMBRELLA, HOOLI))
    return Planned(
        REPORT, "POST", "/v1/reports", headers=_token(payer.tenant, JWT_SECRET), usage={"report": 1}, payer=payer
    )


def _forged_report(_dice: random.Random) -> Planned:
    return Planned(REPORT, "POST", "/v1/reports", 401, _token(HOOLI.tenant, "a-secret-that-somebody-has-guessed-at"))


def _file(dice: random.Random) -> Planned:
    payer = dice.choice((HOOLI, HOOLI, GLOBEX))
    path = f"/v1/files/{payer.org}/{dice.randint(1, 999)}"
    return Planned(FILE, "GET", path, usage={"file_read": 1}, payer=payer)


def _missing_file(_dice: random.Random) -> Planned:
    return Planned(FILE, "GET", f"/v1/files/{GLOBEX.org}/0", 404)


def _alive(_dice: random.Random) -> Planned:
    return Planned(HEALTH, "GET", "/healthz")


_KINDS: tuple[tuple[Maker, int], ...] = (
    (_chat_of(ACME, ACME, GLOBEX), 24),
    (_search, 24),
    (_report, 12),
    (_file, 20),
    (_chat_of(STARK), 5),
    (lambda dice: _chat(dice, UNKNOWN_ACCOUNT, None, "no_customer"), 2),
    (lambda dice: _chat(dice, "", None, "no_user"), 2),
    (_broken_chat, 3),
    (_vain_search, 3),
    (_forged_report, 2),
    (_missing_file, 3),
    (_alive, 4),
)
"""What makes a request, and its share of the traffic."""
