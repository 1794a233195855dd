"""The control calls about what becomes of meter events after their 200."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from otel_usageflow.testing.stripe.api import Api
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.rejections import Rejected, RejectRule

Args = Mapping[str, Any]
Route = Callable[[Args], JsonObject]


class SteeredUsage(Protocol):
    """What these calls need of the double; see `StripeDouble` for each."""

    api: Api
    rejected: list[Rejected]

    @property
    def reject(self) -> Callable[..., RejectRule]:
        """A rule more."""

    @property
    def clear_rejections(self) -> Callable[[], None]:
        """No rules."""

    @property
    def reports(self) -> Callable[..., list[JsonObject]]:
        """The reports of an account."""


def usage_routes(double: SteeredUsage) -> dict[tuple[str, str], Route]:
    """The calls, by method and path."""

    def rejected(args: Args) -> JsonObject:
        """`?from=N` (skip the first N), `?limit=N`."""
        first = int(args.get("from", 0))
        part = double.rejected[first : first + int(args.get("limit", 10_000))]
        return {"count": len(double.rejected), "data": [_rejected_object(event) for event in part]}

    def rules(_args: Args) -> JsonObject:
        accounts = double.api.accounts.values()
        return {
            "data": [_rule_object(rule, account.name) for account in accounts for rule in account.reject_rules.all]
        }

    def add_rule(args: Args) -> JsonObject:
        """`{"event_name", "code", "times": 1 or null, "probability", "seed", "customer", "real", "account"}`."""
        options = {name: value for name, value in args.items() if name not in ("event_name", "code")}
        return _rule_object(double.reject(args.get("event_name"), args["code"], **options), args.get("account"))

    def clear_rules(_args: Args) -> JsonObject:
        double.clear_rejections()
        return {}

    def reports(args: Args) -> JsonObject:
        """`?account=`."""
        return {"data": double.reports(account=args.get("account"))}

    return {
        ("GET", "rejected"): rejected,
        ("GET", "rejections"): rules,
        ("POST", "rejections"): add_rule,
        ("DELETE", "rejections"): clear_rules,
        ("GET", "reports"): reports,
    }


def _rejected_object(event: Rejected) -> JsonObject:
    return event.render() | {
        "account": event.account,
        "received": event.received,
        "idempotency_key": event.idempotency_key,
        "code": event.code,
    }


def _rule_object(rule: RejectRule, account: str | None) -> JsonObject:
    return {
        "event_name": rule.event_name,
        "code": rule.code,
        "times": rule.times,
        "probability": rule.probability,
        "seed": rule.seed,
        "customer": rule.customer,
        "real": rule.real,
        "account": account,
        "fired": rule.fired,
    }
