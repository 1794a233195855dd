"""`doctor`: the key, what it may do, Stripe's clock, and the meters."""

import email.utils
from collections.abc import Iterator
from typing import TYPE_CHECKING

from otel_usageflow.cli.finding import Finding, Level
from otel_usageflow.exporters.stripe_meter.answers import remedy_for, what_happened
from otel_usageflow.exporters.stripe_meter.api import Look, StripeApi, connect
from otel_usageflow.exporters.stripe_meter.needed_meters import Needed, Verdict, needed
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure

if TYPE_CHECKING:
    from otel_usageflow.cli.billed import Outlet

_READS = {
    "billing_meter_read": ("/v1/billing/meters?limit=1", "meters and their summaries"),
    "customer_read": ("/v1/customers?limit=1", "customers"),
    "event_read": ("/v1/events?limit=1", "changes of customers"),
}
_REPORTS = "/v2/core/events?limit=1"
_CLOCK_WARNING = 60.0
_CLOCK_PROBLEM = 300.0
"""Seconds: Stripe refuses what lies more than 5 minutes ahead."""
_LIVE = "https://api.stripe.com"


async def examine(outlet: "Outlet", now: float) -> list[Finding]:
    """Everything about one exporter that can be found out without sending."""
    where = f"exporters::{outlet.exporter}"
    findings = list(_key(outlet, where))
    async with connect(outlet.config) as api:
        for account in outlet.accounts:
            name = f"{where}, account {account}" if account else where
            try:
                findings.extend(await _account(api, outlet, account, name, now))
            except StripeFailure as error:
                findings.append(_unreachable(name, error))
    return findings


def _key(outlet: "Outlet", where: str) -> Iterator[Finding]:
    key, mode = outlet.config.api_key.get_secret_value(), outlet.config.mode
    kind = "restricted" if key.startswith("rk_") else "secret" if key.startswith("sk_") else "unknown"
    text = f"a {kind} key for {mode} mode"
    if kind == "secret":
        yield Finding(
            Level.WARNING,
            f"{where}::api_key",
            f"{text}: it may do everything in the account",
            "make a restricted key; the README lists the permissions that are needed",
        )
    elif kind == "unknown":
        remedy = "Stripe's keys begin with sk_ or rk_"
        yield Finding(Level.WARNING, f"{where}::api_key", "not in the form of Stripe's keys", remedy)
    else:
        yield Finding(Level.OK, f"{where}::api_key", text)
    if outlet.config.endpoints.api.rstrip("/") != _LIVE:
        text = f"{outlet.config.endpoints.api} is not Stripe"
        yield Finding(Level.NOTE, f"{where}::endpoints::api", text, "right for a test double; otherwise leave it out")


async def _account(api: StripeApi, outlet: "Outlet", account: str, where: str, now: float) -> list[Finding]:
    findings: list[Finding] = []
    looks: dict[str, Look] = {}
    for permission, (path, what) in _READS.items():
        looks[permission] = look = await api.look(account, path)
        findings.append(_permission(where, permission, what, look))
        if look.status == 401:
            return findings  # every other call would be answered the same
    reports = await api.look(account, _REPORTS)
    findings.append(_permission(where, "event_read", "reports of refused meter events", reports))
    text = "sending meter events cannot be tried without sending one (billing_meter_event_write)"
    findings.append(Finding(Level.NOTE, where, text, "watch the first one arrive, with `otel-usageflow usage`"))
    findings.append(_clock(where, looks["billing_meter_read"], now))
    if looks["billing_meter_read"].status == 200:
        meters = {account: await api.meters(account)}
        billed = [one for one in outlet.billed if one.account == account]
        findings.extend(_meter(where, one) for one in needed(billed, meters))
    return findings


def _permission(where: str, permission: str, what: str, look: Look) -> Finding:
    if look.status == 200:
        return Finding(Level.OK, where, f"may read {what} ({permission})")
    if look.status == 403:
        remedy = f"give the key the permission {permission}, and access to the account"
        return Finding(Level.PROBLEM, where, f"may not read {what}: {look.said}", remedy)
    if look.status == 401:
        remedy = "check exporters::stripe_meter::api_key: it is wrong, rolled or revoked"
        return Finding(Level.PROBLEM, where, f"Stripe does not take the key: {look.said}", remedy)
    text = f"reading {what}: {look.status} {look.said}"
    return Finding(Level.WARNING, where, text, "try again when Stripe answers")


def _clock(where: str, look: Look, now: float) -> Finding:
    told = email.utils.parsedate_to_datetime(look.date).timestamp() if look.date else None
    if told is None:
        return Finding(Level.NOTE, where, "the answer does not tell Stripe's time")
    difference = now - told
    text = f"this machine's clock is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} Stripe's"
    remedy = "let the machine keep its time by NTP"
    if abs(difference) >= _CLOCK_PROBLEM:
        return Finding(Level.PROBLEM, where, f"{text}; Stripe refuses usage from the future", remedy)
    if abs(difference) >= _CLOCK_WARNING:
        return Finding(Level.WARNING, where, text, remedy)
    return Finding(Level.OK, where, "this machine's clock agrees with Stripe's")


def _meter(where: str, one: Needed) -> Finding:
    if one.verdict is Verdict.OK:
        text = f"the meter {one.event_name} fits {', '.join(one.policies)}"
        return Finding(Level.NOTE if one.notes else Level.OK, where, "; ".join((text, *one.notes)))
    return Finding(Level.PROBLEM, where, one.why, one.remedy)


def _unreachable(where: str, error: BaseException) -> Finding:
    text = f"Stripe cannot be asked: {what_happened(error)}"
    return Finding(Level.PROBLEM, where, text, remedy_for(error))
