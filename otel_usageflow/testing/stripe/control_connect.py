"""The control calls about customers in bulk, connected accounts, OAuth, webhooks and keys."""

from collections.abc import Callable, Mapping
from typing import Any

from otel_usageflow.testing.stripe.connections import Connection
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.steered import Steered
from otel_usageflow.testing.stripe.webhook_endpoints import WebhookEndpoint
from otel_usageflow.testing.stripe.webhook_faults import WebhookFault, WebhookRule
from otel_usageflow.testing.stripe.webhooks import Delivery

Args = Mapping[str, Any]
Route = Callable[[Args], JsonObject]


def connect_routes(double: Steered) -> dict[tuple[str, str], Route]:
    """The calls, by method and path."""

    def add_customers(args: Args) -> JsonObject:
        """`{"count", "field", "value": "user-{}" or a list, "created", "spread", "account"}`."""
        made = double.add_customers(**args)
        return {"count": made.count, "first": made.id_of(0), "last": made.id_of(made.count - 1)}

    def connections(_args: Args) -> JsonObject:
        both = [*double.api.connections.all(livemode=False), *double.api.connections.all(livemode=True)]
        return {"strict": double.api.connections.strict, "data": [_connection(one) for one in dict.fromkeys(both)]}

    def connect(args: Args) -> JsonObject:
        """`{"account", "livemode", "scope": "read_write"}`, the first required."""
        return _connection(double.connect_account(**args))

    def disconnect(args: Args) -> JsonObject:
        """`{"account", "livemode"}`."""
        double.disconnect_account(**args)
        return {}

    def oauth(_args: Args) -> JsonObject:
        return {"client_ids": double.oauth.client_ids, "redirect_uris": double.oauth.redirect_uris}

    def change_oauth(args: Args) -> JsonObject:
        """`{"redirect_uris": [...]}`."""
        uris = args["redirect_uris"]
        if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
            raise TypeError("`redirect_uris` must be a list of addresses")
        double.oauth.redirect_uris[:] = uris
        return oauth(args)

    def roll_key(args: Args) -> JsonObject:
        """`{"old", "new"}`."""
        double.roll_key(args["old"], args["new"])
        return {}

    def revoke_key(args: Args) -> JsonObject:
        """`{"key"}`."""
        double.revoke_key(args["key"])
        return {}

    return {
        ("POST", "customers"): add_customers,
        ("GET", "connections"): connections,
        ("POST", "connections"): connect,
        ("DELETE", "connections"): disconnect,
        ("GET", "oauth"): oauth,
        ("POST", "oauth"): change_oauth,
        ("POST", "oauth/approve"): lambda args: {"location": double.approve(args["url"], args.get("account"))},
        ("POST", "oauth/deny"): lambda args: {"location": double.deny(args["url"])},
        ("POST", "keys/roll"): roll_key,
        ("DELETE", "keys"): revoke_key,
    }


def webhook_routes(double: Steered) -> dict[tuple[str, str], Route]:
    """The calls about webhooks, by method and path."""

    def add(args: Args) -> JsonObject:
        """`{"url", "kind": "snapshot", "secret", "events", "connect", "livemode"}`, the first required."""
        endpoint = double.add_webhook(**args)
        return _endpoint(endpoint) | {"secret": endpoint.secret}

    def remove(args: Args) -> JsonObject:
        """`{"id"}`."""
        double.webhooks.remove(args["id"])
        return {}

    def fault(args: Args) -> JsonObject:
        """`{"fault", "event", "times": 1 or null, "seconds"}`, the first required."""
        return _rule(double.webhook_fault(**{**args, "fault": WebhookFault(args["fault"])}))

    def clear(_args: Args) -> JsonObject:
        double.clear_webhook_faults()
        return {}

    def deliveries(args: Args) -> JsonObject:
        """`?limit=N`."""
        last = list(double.deliveries)[-int(args.get("limit", 100)) :]
        return {"idle": double.webhooks.idle, "data": [_delivery(one) for one in last]}

    return {
        ("GET", "webhooks"): lambda _args: {"data": [_endpoint(one) for one in double.webhooks.endpoints]},
        ("POST", "webhooks"): add,
        ("DELETE", "webhooks"): remove,
        ("GET", "webhooks/faults"): lambda _args: {"data": [_rule(rule) for rule in double.webhooks.rules]},
        ("POST", "webhooks/faults"): fault,
        ("DELETE", "webhooks/faults"): clear,
        ("GET", "deliveries"): deliveries,
    }


def _connection(one: Connection) -> JsonObject:
    return {
        "account": one.account,
        "client_id": one.client_id,
        "livemode": one.livemode,
        "scope": one.scope,
        "since": one.since,
    }


def _endpoint(one: WebhookEndpoint) -> JsonObject:
    return {
        "id": one.id,
        "url": one.url,
        "kind": one.kind,
        "livemode": one.livemode,
        "events": list(one.events),
        "connect": one.connect,
    }


def _rule(rule: WebhookRule) -> JsonObject:
    return {
        "fault": rule.fault.value,
        "event": rule.event,
        "times": rule.times,
        "seconds": rule.seconds,
        "fired": rule.fired,
    }


def _delivery(one: Delivery) -> JsonObject:
    return {
        "url": one.url,
        "event_id": one.event_id,
        "event_type": one.event_type,
        "attempt": one.attempt,
        "status": one.status,
        "at": one.at,
        "fault": None if one.fault is None else one.fault.value,
    }
