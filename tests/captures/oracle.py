"""Adds up what the traffic must cost: the bill that `preview` is compared with. record.py writes it down."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from differences import DIFFERENCES
from outcomes import Billed, Outcome, Quarantined, Unbilled
from traffic import REQUESTS, Request

METERS: Mapping[str, tuple[str, str]] = {
    "header": ("api_request", "account_id"),
    "any": ("api_request", "account_id"),
    "key": ("api_request", "api_key_sha256"),
    "bearer": ("api_request", "api_key_sha256"),
    "jwt": ("api_request", "tenant"),
    "basic": ("api_request", "account_id"),
    "cookie": ("api_request", "account_id"),
    "baggage": ("api_request", "account_id"),
    "transform": ("api_request", "account_id"),
    "template": ("api_request", "account_id"),
    "query": ("api_request", "account_id"),
    "path": ("api_request", "org"),
    "body": ("api_request", "account_id"),
    "metadata": ("api_request", "account_id"),
    "redacted": ("api_request", "account_id"),
    "lookup": ("lookup", "account_id"),
    "lines": ("lookup", "account_id"),
    "fail": ("api_request", "account_id"),
    "attempts": ("attempt", "account_id"),
    "mounted": ("api_request", "account_id"),
    "chat": ("chat_request", "account_id"),
    "tokens": ("chat_tokens", "account_id"),
}
"""Policy of policies.yaml -> (event name, customer metadata field)."""


PARTS = ("usage", "quarantined", "unbilled")
"""The lists of a bill."""


def outcomes_of(request: Request, capture: str) -> tuple[int, tuple[Outcome, ...]]:
    """How often the request is reported in the capture of that name, and what each time comes of it."""
    for difference in DIFFERENCES:
        if request.name == difference.request and capture in difference.captures:
            instead = tuple(
                Billed(policy, user) if user is not None else Quarantined(policy)
                for policy, user in difference.becomes.items()
            )
            # The status is judged before the user is, and no difference is one of the status.
            unbilled = tuple(outcome for outcome in request.outcomes if instead and isinstance(outcome, Unbilled))
            return difference.times, instead + unbilled
    return 1, request.outcomes


def bill(capture: str = "") -> dict[str, Any]:
    """What `preview --format json` must print for that capture, without `spans`; by default with nothing lost.

    `requests` is the number of requests that were sent, so a span that is counted twice, or not at all, shows.
    Only a difference that says so makes it more.
    """
    usage: dict[tuple[str, str, str], list[Any]] = {}
    quarantined: Counter[tuple[str, str]] = Counter()
    unbilled: Counter[tuple[str, str]] = Counter()
    reported = unmatched = 0
    for request in REQUESTS:
        times, outcomes = outcomes_of(request, capture)
        reported += times
        unmatched += 0 if outcomes else times
        for outcome in outcomes * times:
            match outcome:
                case Billed(policy, user, quantity):
                    usage.setdefault((policy, METERS[policy][0], user), []).append(quantity)
                case Quarantined(policy, reason):
                    quarantined[policy, reason] += 1
                case Unbilled(policy):
                    unbilled[policy, "status"] += 1
    return {
        "requests": reported,
        "usage": [
            {
                "policy": policy,
                "event_name": event_name,
                "metadata_field": METERS[policy][1],
                "user": user,
                "requests": len(quantities),
                "quantity": _sum(quantities),
            }
            for (policy, event_name, user), quantities in sorted(usage.items())
        ],
        "quarantined": _rows(quarantined),
        "unbilled": _rows(unbilled),
        "unmatched_requests": unmatched,
    }


def _sum(quantities: Iterable[str]) -> str:
    tenths = sum(round(float(quantity) * 10) for quantity in quantities)
    return str(tenths // 10) if tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10}"


def _rows(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"policy": p, "reason": r, "requests": n} for (p, r), n in sorted(counts.items())]


def expected(captures: Iterable[str]) -> dict[str, Any]:
    """What stands in expected.json: the bill of all, and how the bill of a capture differs from it, with why.

    A difference is the rows that are not in that capture's bill, and those that are there instead.
    """
    common = bill()
    exceptions: dict[str, Any] = {}
    for capture in sorted(captures):
        reasons = {d.request: d.reason for d in DIFFERENCES if capture in d.captures}
        if reasons:
            own = bill(capture)
            exceptions[capture] = {
                "reasons": reasons,
                "without": {part: [row for row in common[part] if row not in own[part]] for part in PARTS},
                "with": {part: [row for row in own[part] if row not in common[part]] for part in PARTS},
                "requests": own["requests"],
                "unmatched_requests": own["unmatched_requests"],
            }
    return {"bill": common, "exceptions": exceptions}


def expected_text(captures: Iterable[str]) -> str:
    """expected.json, one row a line."""
    text = json.dumps(expected(captures), indent=1, ensure_ascii=False)
    return re.sub(r"\{[^{}\[\]]*\}", lambda row: re.sub(r"\n\s*", " ", row[0]), text) + "\n"
