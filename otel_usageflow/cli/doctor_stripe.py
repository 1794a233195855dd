"""`doctor`: what the key may do in each account, Stripe's clock, the meters, and whether it is the same account."""

import email.utils
from typing import TYPE_CHECKING

from otel_usageflow.cli import doctor_way
from otel_usageflow.cli.connect_access import connected_access
from otel_usageflow.cli.finding import Finding, Level
from otel_usageflow.errors import StartError
from otel_usageflow.exporters.stripe_meter.answers import NO_ACCESS, outcome_of, remedy_for, what_happened
from otel_usageflow.exporters.stripe_meter.api import Look, StripeApi, connect
from otel_usageflow.exporters.stripe_meter.needed_meters import Needed, Verdict, needed
from otel_usageflow.exporters.stripe_meter.permissions import CUSTOMERS, EVENTS, METERS, SEND
from otel_usageflow.exporters.stripe_meter.recognition import is_another
from otel_usageflow.exporters.stripe_meter.stream import of_session
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.ledger.identity import REMEDY, WHAT
from otel_usageflow.model.outcome import Halted

if TYPE_CHECKING:
    from collections.abc import Collection

    from otel_usageflow.cli.billed import Outlet

_READS = {
    METERS: ("/v1/billing/meters?limit=1", "meters and their summaries"),
    CUSTOMERS: ("/v1/customers?limit=1", "customers"),
    EVENTS: ("/v1/events?limit=1", "changes of customers"),
}
_REPORTS = "/v2/core/events?limit=1"
_CLOCK_WARNING = 60.0
_CLOCK_PROBLEM = 300.0
"""Seconds: Stripe refuses what lies more than 5 minutes ahead."""


async def examine(outlet: "Outlet", known_meters: "Collection[str]", now: float) -> list[Finding]:
    """Everything about one exporter that can be found out without sending.

    Args:
        known_meters: of the key's own account, by the ledger.
        now: unix seconds.
    """
    where = f"exporters::{outlet.exporter}"
    findings = list(doctor_way.key(outlet.config, where))
    try:
        findings.extend(doctor_way.way(outlet.config, where))
        access = connected_access(outlet.exporter, outlet.config, outlet.directory)
        async with connect(outlet.config, access=access) as api:
            for account in outlet.accounts:
                name = f"{where}, account {account}" if account else where
                try:
                    findings.extend(await _account(api, outlet, account, name, known_meters, now))
                except StripeFailure as error:
                    text = f"Stripe cannot be asked: {what_happened(error)}"
                    findings.append(Finding(Level.PROBLEM, name, text, remedy_for(error)))
    except StartError as error:
        what, _, remedy = str(error).partition("; ")
        findings.append(Finding(Level.PROBLEM, where, what, remedy))
    return findings


async def _account(
    api: StripeApi, outlet: "Outlet", account: str, where: str, known_meters: "Collection[str]", now: float
) -> list[Finding]:
    findings: list[Finding] = []
    looks: dict[str, Look] = {}
    for permission, (path, what) in _READS.items():
        looks[permission.name] = look = await api.look(account, path)
        findings.append(_permission(where, account, permission.name, what, look))
        if look.status == 401 or look.is_no_access:
            return findings  # every other call would be answered the same
    reports = await api.look(account, _REPORTS)
    findings.append(_permission(where, account, EVENTS.name, "reports of refused meter events", reports))
    findings.append(await _sending(api, outlet, account, where))
    meters_look = looks[METERS.name]
    findings.append(_clock(where, meters_look, now))
    if meters_look.status == 200:
        meters = {account: await api.meters(account)}
        if not account and await is_another(api, known_meters, meters[account]):
            findings.append(Finding(Level.PROBLEM, f"{where}::api_key", WHAT, REMEDY))
        billed = [one for one in outlet.billed if one.account == account]
        findings.extend(_meter(where, one) for one in needed(billed, meters))
    return findings


async def _sending(api: StripeApi, outlet: "Outlet", account: str, where: str) -> Finding:
    """A session of the stream can be opened without sending; a single meter event cannot be tried."""
    if not outlet.config.streams:
        return Finding(
            Level.NOTE,
            where,
            f"sending meter events cannot be tried without sending one ({SEND.name})",
            "watch the first one arrive, with `otel-usageflow usage`",
        )
    try:
        await api.create_session(account)
    except StripeFailure as error:
        outcome = of_session(error)
        remedy = outcome.remedy if isinstance(outcome, Halted) else remedy_for(error)
        return Finding(
            Level.PROBLEM, where, f"no session of the stream can be opened: {what_happened(error)}", remedy
        )
    return Finding(Level.OK, where, "a session of the stream can be opened")


def _permission(where: str, account: str, permission: str, what: str, look: Look) -> Finding:
    if look.status == 200:
        return Finding(Level.OK, where, f"may read {what} ({permission})")
    if look.is_no_access:
        return Finding(Level.PROBLEM, where, f"the key may not act for {account}: {look.said}", NO_ACCESS)
    if look.status == 403:
        remedy = (
            f"give the key the permission {permission} in the Dashboard (Developers > API keys); no restart is needed"
        )
        return Finding(Level.PROBLEM, where, f"may not read {what}: {look.said}", remedy)
    if look.error is not None and isinstance(outcome := outcome_of(look.error), Halted):
        text = (
            f"Stripe does not take the key: {look.said}" if look.status == 401 else f"reading {what}: {outcome.why}"
        )
        return Finding(Level.PROBLEM, where, text, outcome.remedy)
    if look.error is not None:
        return Finding(Level.WARNING, where, f"reading {what}: {what_happened(look.error)}", remedy_for(look.error))
    return Finding(Level.WARNING, where, f"reading {what}: status {look.status}", "try again when Stripe answers")


def _clock(where: str, look: Look, now: float) -> Finding:
    told = email.utils.parsedate_to_datetime(look.date).timestamp() if look.date else None
    if told is None:
        return Finding(Level.NOTE, where, "the answer does not tell Stripe's time")
    difference = now - told
    if abs(difference) < _CLOCK_WARNING:
        return Finding(Level.OK, where, "this machine's clock agrees with Stripe's")
    text = f"this machine's clock is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} Stripe's"
    if abs(difference) < _CLOCK_PROBLEM:
        return Finding(Level.WARNING, where, text, "let this machine, and those of the APIs, keep their time by NTP")
    return Finding(
        Level.PROBLEM,
        where,
        f"{text}; if the machines of the APIs are off as well, usage lands in another billing period, "
        "and Stripe refuses what lies ahead",
        "let this machine, and those of the APIs, keep their time by NTP",
    )


def _meter(where: str, one: Needed) -> Finding:
    if one.verdict is Verdict.OK:
        text = f"the meter {one.event_name} fits {', '.join(one.policies)}"
        return Finding(Level.NOTE if one.notes else Level.OK, where, "; ".join((text, *one.notes)))
    return Finding(Level.PROBLEM, where, one.why, one.remedy)
