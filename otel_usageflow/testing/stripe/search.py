"""`GET /v1/customers/search`: late, case-insensitive, paged by token (docs.stripe.com/search)."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.customers import Customers
from otel_usageflow.testing.stripe.failures import invalid
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.params import EXPAND, Param, integer, text
from otel_usageflow.testing.stripe.search_query import compile_query, required_metadata
from otel_usageflow.testing.stripe.settings import Settings

SEARCH = EXPAND | {
    "query": Param(text(), required=True),
    "limit": Param(integer(1, 100)),
    "page": Param(text()),
}


class CustomerSearch:
    """Sees the customers as they were `search_lag` seconds ago, in all that it answers."""

    def __init__(self, clock: Clock, settings: Settings, customers: Customers) -> None:
        self._clock, self._settings, self._customers = clock, settings, customers

    def search(self, params: Mapping[str, Any]) -> JsonObject:
        """GET /v1/customers/search."""
        test = compile_query(params["query"])
        limit: int = params.get("limit", 10)
        end = _read_token(params["page"], params["query"]) if "page" in params else None
        moment = self._clock.now() - self._settings.search_lag
        key = required_metadata(params["query"])
        last = len(self._customers.all) if end is None else end
        places = range(last) if key is None else self._customers.all.holding(*key)
        found = []
        for place in reversed(places):
            customer = self._customers.at(place, moment) if place < last else None
            if customer is not None and not customer.deleted and test(customer):
                found.append(customer)
                if len(found) > limit:
                    break
        has_more = len(found) > limit
        found = found[:limit]
        return {
            "object": "search_result",
            "url": "/v1/customers/search",
            "has_more": has_more,
            "data": [customer.render() for customer in found],
            "next_page": _token(found[-1].place, params["query"]) if has_more else None,
        }


def _token(place: int, query: str) -> str:
    return base64.urlsafe_b64encode(f"{place}:{_mark(query)}".encode()).decode()


def _read_token(token: str, query: str) -> int:
    try:
        place, mark = base64.urlsafe_b64decode(token).decode().split(":")
        if mark == _mark(query):
            return int(place)
    except (binascii.Error, UnicodeDecodeError, ValueError):
        pass
    raise invalid("The page is not one of this query.", "page")


def _mark(query: str) -> str:
    return hashlib.blake2b(query.encode(), digest_size=6).hexdigest()
