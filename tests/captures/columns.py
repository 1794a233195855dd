"""The columns of the compatibility table, and what a cell says: how much of the traffic costs what it must."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from differences import DIFFERENCES, Difference
from oracle import bill
from traffic import REQUESTS

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "header": ("header",),
    "header twice": ("lines",),
    "fallback": ("any",),
    "API key": ("key",),
    "bearer key": ("bearer",),
    "JWT": ("jwt",),
    "basic auth": ("basic",),
    "cookie": ("cookie",),
    "baggage": ("baggage",),
    "transform": ("transform",),
    "template": ("template",),
    "query": ("query",),
    "path": ("path",),
    "body": ("body",),
    "own attribute": ("metadata",),
    "redacted": ("redacted",),
    "tokens": ("chat", "tokens"),
    "status": ("lookup", "fail", "attempts"),
    "mounted": ("mounted",),
}
"""Heading -> policies of policies.yaml."""
NO_POLICY = "no policy"
"""The last column: HEAD, OPTIONS, health checks and unknown paths cost nothing."""
SAME = "✓"

Bill = Mapping[str, Any]
Row = tuple[str, str, str]
"""A kind of outcome, its policy, and the user and quantity per request, or the reason."""


def cells(printed: Bill, capture: str) -> list[str]:
    """The cells of a capture that `preview` billed so, in the order of COLUMNS and NO_POLICY."""
    wanted, got = _outcomes(bill()), _outcomes(printed)
    texts = [_cell(_of(wanted, policies), _of(got, policies), policies, capture) for policies in COLUMNS.values()]
    as_told = printed["unmatched_requests"] == bill(capture)["unmatched_requests"]
    return [*texts, SAME if as_told else "**differs**"]


def remedies(capture: str) -> list[str]:
    """The headings of page/remedies.md that a capture's row refers to, in the order of differences.py."""
    return list(dict.fromkeys(d.remedy for d in DIFFERENCES if capture in d.captures))


def anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub forms it."""
    return "".join(c for c in heading.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _cell(wanted: Counter[Row], got: Counter[Row], policies: Iterable[str], capture: str) -> str:
    if wanted == got:
        return SAME
    same, total = (wanted & got).total(), wanted.total()
    text = f"{same}/{total}" if same < total else f"{total}+{got.total() - total}"
    links = dict.fromkeys(d.remedy for d in DIFFERENCES if capture in d.captures and _concerns(d, set(policies)))
    return " ".join([text, *(f"[{_letter(link)}](#{anchor(link)})" for link in links)])


def _concerns(difference: Difference, policies: set[str]) -> bool:
    request = next(request for request in REQUESTS if request.name == difference.request)
    return bool(policies & {*difference.becomes, *(outcome.policy for outcome in request.outcomes)})


def _letter(heading: str) -> str:
    return chr(ord("a") + list(dict.fromkeys(d.remedy for d in DIFFERENCES)).index(heading))


def lettered() -> dict[str, str]:
    """Heading -> letter, of all remedies."""
    return {heading: _letter(heading) for heading in dict.fromkeys(d.remedy for d in DIFFERENCES)}


def _of(outcomes: Counter[Row], policies: Iterable[str]) -> Counter[Row]:
    return Counter({row: count for row, count in outcomes.items() if row[1] in policies})


def _outcomes(printed: Bill) -> Counter[Row]:
    """Each outcome as often as it came; usage of another quantity is another outcome."""
    counts: Counter[Row] = Counter()
    for row in printed["usage"]:
        each = float(row["quantity"]) / row["requests"]
        counts["usage", row["policy"], f"{row['user']} {each:g}"] += row["requests"]
    for part in ("quarantined", "unbilled"):
        for row in printed[part]:
            counts[part, row["policy"], row["reason"]] += row["requests"]
    return counts
