"""`/_double/`: how a test steers and reads a double that runs as a process of its own. JSON in, JSON out."""

import dataclasses
import json
import urllib.parse

from otel_usageflow.testing.stripe.account import Account, Violation
from otel_usageflow.testing.stripe.aggregation import aggregate
from otel_usageflow.testing.stripe.control_connect import connect_routes, webhook_routes
from otel_usageflow.testing.stripe.control_usage import Args, Route, accepted_object, usage_routes
from otel_usageflow.testing.stripe.failures import StripeFailure
from otel_usageflow.testing.stripe.faults import Fault, Rule
from otel_usageflow.testing.stripe.message import Answer, Call, JsonObject
from otel_usageflow.testing.stripe.settings import SETTABLE
from otel_usageflow.testing.stripe.steered import Steered


def totals(account: Account) -> list[JsonObject]:
    """What every customer of an account has used, per meter, as exact decimal strings."""
    rows = []
    for meter_id, customer in account.book.customers():
        meter = account.meters.find(meter_id)
        events = account.book.counted(meter, customer)
        rows.append(
            {
                "account": account.name,
                "livemode": account.livemode,
                "event_name": meter.event_name,
                "customer": customer,
                "metadata": dict(account.customers.find(customer).metadata),
                "events": len(events),
                "total": format(aggregate(meter, events), "f"),
            }
        )
    return sorted(rows, key=lambda row: (row["event_name"], row["customer"]))


_SECRET = frozenset({"client_secret", "code", "refresh_token"})


class Control:
    """Answers the control calls."""

    def __init__(self, double: Steered) -> None:
        self._double, self._api = double, double.api
        self._routes: dict[tuple[str, str], Route] = {
            ("GET", "accepted"): self._accepted,
            ("GET", "totals"): self._totals,
            ("GET", "violations"): self._violations,
            ("GET", "calls"): self._calls,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "clock"): self._clock,
            ("POST", "clock/advance"): self._advance,
            ("POST", "outage"): self._outage,
            ("GET", "settings"): self._settings,
            ("POST", "settings"): self._change_settings,
            ("GET", "limits"): self._limits,
            ("POST", "limits"): self._change_limits,
            **usage_routes(double),
            **connect_routes(double),
            **webhook_routes(double),
        }

    async def __call__(self, method: str, path: str, query: str, body: bytes) -> Answer:
        """Answer one call: 404 for an unknown one, 400 for one that makes no sense."""
        route = self._routes.get((method, path))
        if route is None:
            known = ", ".join(f"{known_method} {known_path}" for known_method, known_path in self._routes)
            return Answer(404, {"error": f"no such control call; there are: {known}"})
        try:
            args = dict(urllib.parse.parse_qsl(query)) if method == "GET" else json.loads(body or b"{}")
            if not isinstance(args, dict):
                raise TypeError("the body must be a JSON object")
            return Answer(200, route(args))
        except (ValueError, TypeError, KeyError, IndexError, StripeFailure) as error:
            return Answer(400, {"error": f"{type(error).__name__}: {error}"})

    def _accepted(self, args: Args) -> JsonObject:
        """`?event_name=`, `?customer=`, `?from=N` (skip the first N), `?limit=N`."""
        events = self._api.shared.accepted
        first = int(args.get("from", 0))
        found = (
            event
            for event in events[first:]
            if args.get("event_name", event.event_name) == event.event_name
            and args.get("customer", event.customer) == event.customer
        )
        limit = int(args.get("limit", 10_000))
        data = [accepted_object(event) for event, _ in zip(found, range(limit), strict=False)]
        return {"count": len(events), "data": data}

    def _totals(self, _args: Args) -> JsonObject:
        rows = [row for account in self._api.accounts.values() for row in totals(account)]
        return {"accepted": len(self._api.shared.accepted), "data": rows}

    def _violations(self, _args: Args) -> JsonObject:
        data = [_violation_object(violation) for violation in self._api.shared.violations]
        return {"count": len(data), "data": data}

    def _calls(self, args: Args) -> JsonObject:
        calls = list(self._double.calls)[-int(args.get("limit", 100)) :]
        return {"data": [_call_object(call) for call in calls]}

    def _list_faults(self, _args: Args) -> JsonObject:
        faults = self._api.faults
        return {"outage": faults.outage, "data": [_rule_object(rule) for rule in faults.rules]}

    def _add_fault(self, args: Args) -> JsonObject:
        """`{"path", "fault", "times": 1 or null, "probability", "seed", "seconds", "method"}`."""
        rule = Rule(**{**args, "fault": Fault(args["fault"])})
        return _rule_object(self._api.faults.add(rule))

    def _clear_faults(self, _args: Args) -> JsonObject:
        self._api.faults.clear()
        return {}

    def _clock(self, _args: Args) -> JsonObject:
        return {"now": self._api.shared.clock.now()}

    def _advance(self, args: Args) -> JsonObject:
        self._api.shared.clock.advance(float(args["seconds"]))
        return self._clock(args)

    def _settings(self, _args: Args) -> JsonObject:
        return {name: getattr(self._api.shared.settings, name) for name in SETTABLE}

    def _change_settings(self, args: Args) -> JsonObject:
        """`{"validation": "asynchronous", "report_delay": 5}` and so on."""
        self._api.shared.settings.change(args)
        return self._settings(args)

    def _limits(self, _args: Args) -> JsonObject:
        return dataclasses.asdict(self._api.shared.settings.limits)

    def _change_limits(self, args: Args) -> JsonObject:
        """`{"basic": 25, "all_basic": true}` and so on; null is none."""
        self._api.shared.settings.limits.change(args)
        return self._limits(args)

    def _outage(self, args: Args) -> JsonObject:
        """`{"on": true}` or `{"on": false}`."""
        if not isinstance(args["on"], bool):
            raise TypeError("`on` must be true or false")
        self._api.faults.outage = args["on"]
        return {"outage": args["on"]}


def _violation_object(violation: Violation) -> JsonObject:
    return {
        "account": violation.account,
        "event_name": violation.event_name,
        "customer": violation.customer,
        "request_ids": [violation.first_request_id, violation.second_request_id],
    }


def _call_object(call: Call) -> JsonObject:
    hidden = {name: value for name, value in call.headers.items() if name.lower() != "authorization"}
    form = {name: "***" if name in _SECRET else value for name, value in call.form.items()}
    return call._asdict() | {"form": form, "headers": hidden}


def _rule_object(rule: Rule) -> JsonObject:
    return {
        "path": rule.path,
        "fault": rule.fault.value,
        "times": rule.times,
        "probability": rule.probability,
        "seed": rule.seed,
        "seconds": rule.seconds,
        "method": rule.method,
        "fired": rule.fired,
    }
