"""The control calls about what becomes of meter events after their 200, and about what is read."""

from collections.abc import Callable, Mapping
from typing import Any

from otel_usageflow.testing.stripe.book import MeterEvent
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.rejections import Rejected, RejectRule
from otel_usageflow.testing.stripe.steered import Steered

Args = Mapping[str, Any]
Route = Callable[[Args], JsonObject]


def usage_routes(double: Steered) -> dict[tuple[str, str], Route]:
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

    def lose(args: Args) -> JsonObject:
        """`{"event_name", "n": 1, "customer", "identifier", "forget", "account"}`, each of them optional."""
        return _listed(double.lose(**args))

    def add_foreign(args: Args) -> JsonObject:
        """`{"event_name", "customer", "value": "1", "timestamp", "account"}`, the first two required."""
        return accepted_object(double.add_foreign(**args))

    def reads(_args: Args) -> JsonObject:
        data = [
            {"account": account.name, "livemode": account.livemode, "path": path, "reads": count}
            for account in double.api.accounts.values()
            for path, count in sorted(account.reads.items())
        ]
        last = [
            {"account": account.name, "livemode": account.livemode, "reads": account.allocation.used()}
            for account in double.api.accounts.values()
        ]
        count = sum(account.reads.total() for account in double.api.accounts.values())
        return {"count": count, "data": data, "last_30_days": last}

    return {
        ("GET", "cancelled"): lambda _args: _listed(double.cancelled),
        ("GET", "lost"): lambda _args: _listed(double.lost),
        ("POST", "lost"): lose,
        ("GET", "foreign"): lambda _args: _listed(double.foreign),
        ("POST", "foreign"): add_foreign,
        ("GET", "reads"): reads,
        ("GET", "rejected"): rejected,
        ("GET", "rejections"): rules,
        ("POST", "rejections"): add_rule,
        ("DELETE", "rejections"): clear_rules,
        ("GET", "reports"): reports,
    }


def accepted_object(event: MeterEvent) -> JsonObject:
    """One accepted event, with what Stripe would not show."""
    return event.render() | {
        "account": event.account,
        "customer": event.customer,
        "value": str(event.value),
        "received": event.received,
        "idempotency_key": event.idempotency_key,
    }


def _listed(events: list[MeterEvent]) -> JsonObject:
    return {"count": len(events), "data": [accepted_object(event) for event in events]}


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
