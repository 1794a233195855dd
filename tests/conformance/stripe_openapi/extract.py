"""Cuts what our tests need out of Stripe's published OpenAPI documents, and writes v1.json and v2.json.

    python tests/conformance/stripe_openapi/extract.py v1 openapi.spec3.json
    python tests/conformance/stripe_openapi/extract.py v2 openapi.spec3.json

Only what can be checked is kept: descriptions and extensions go, and a schema that is not listed here becomes one
that takes anything.
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATHS = {
    "v1": (
        "/v1/account",
        "/v1/accounts",
        "/v1/accounts/{account}",
        "/v1/billing/meter_event_adjustments",
        "/v1/billing/meter_events",
        "/v1/billing/meters",
        "/v1/billing/meters/{id}",
        "/v1/billing/meters/{id}/deactivate",
        "/v1/billing/meters/{id}/event_summaries",
        "/v1/billing/meters/{id}/reactivate",
        "/v1/customers",
        "/v1/customers/search",
        "/v1/customers/{customer}",
        "/v1/events",
        "/v1/events/{id}",
    ),
    "v2": (
        "/v2/billing/meter_event_session",
        "/v2/billing/meter_event_stream",
        "/v2/core/events",
        "/v2/core/events/{id}",
    ),
}
ONLY_READ = frozenset({"/v1/account", "/v1/accounts", "/v1/accounts/{account}"})
"""Of these nothing but GET is kept: what would change an account is long, and never sent."""
KEPT = {
    "v1": (
        "account",
        "api_errors",
        "application",
        "billing.meter",
        "billing.meter_event",
        "billing.meter_event_adjustment",
        "billing.meter_event_summary",
        "customer",
        "deleted_customer",
        "error",
        "event",
    ),
    "v2": (
        "v2.billing.meter_event_session",
        "v2.core.event",
        "v2.error",
        "v2.error.billing_meter_event_session_expired",
        "v2.error.not_found",
    ),
}
_RESOURCES = ("billing_meter_resource_", "notification_event_")
_WORDS = ("description", "title", "summary", "operationId", "tags")


def pruned(value: Any, kept: set[str], *, names: bool = False) -> Any:
    """A part of the document without prose; `names`: its keys are names of things, not of the OpenAPI language."""
    if isinstance(value, list):
        return [pruned(one, kept) for one in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if isinstance(reference, str) and reference.rpartition("/")[2] not in kept:
        return {}
    return {
        key: pruned(below, kept, names=not names and key in ("properties", "schemas", "paths"))
        for key, below in value.items()
        if names or (key not in _WORDS and not key.startswith("x-"))
    }


def cut(part: str, document: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one document."""
    schemas = document["components"]["schemas"]
    kept = {name for name in schemas if name in KEPT[part] or name.startswith(_RESOURCES)}
    return {
        "version": document["info"]["version"],
        "paths": {path: pruned(_of_use(path, document["paths"][path]), kept) for path in PATHS[part]},
        "components": {"schemas": {name: pruned(schemas[name], kept) for name in sorted(kept)}},
    }


def _of_use(path: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"get": item["get"]} if path in ONLY_READ else item


if __name__ == "__main__":
    PART, SOURCE = sys.argv[1:]
    TEXT = json.dumps(cut(PART, json.loads(Path(SOURCE).read_text(encoding="utf-8"))), indent=1, sort_keys=True)
    (HERE / f"{PART}.json").write_text(TEXT + "\n", encoding="utf-8")
