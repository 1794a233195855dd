"""`doctor`: the ledger, the customer directory in it, quarantine, and what recent traffic shows."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from otel_usageflow.cli.finding import Finding, Level
from otel_usageflow.cli.moments import written as time_of
from otel_usageflow.cli.output import shown
from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.connect.desk import ConnectionDesk
from otel_usageflow.extensions.sqlite_storage.file import LEDGER
from otel_usageflow.extensions.sqlite_storage.flow.identity import known_in
from otel_usageflow.extensions.sqlite_storage.quarantine.desk import Quarantine
from otel_usageflow.extensions.sqlite_storage.reading.condition import Condition, condition
from otel_usageflow.ledger.charge import DAY, STRIPE_PAST
from otel_usageflow.ledger.quarantine import Filters, Group, remedy

if TYPE_CHECKING:
    from otel_usageflow.cli.billed import Outlet

_GIB = 1024**3
_ROOM_WARNING, _ROOM_PROBLEM = 2 * _GIB, _GIB // 4
_SOON = 5 * DAY
"""Usage in quarantine whose time runs out within this is a problem."""
_GRACE = 3_600.0
"""Seconds after a billing period within which Stripe still bills usage of it, unless it is set otherwise."""
_COMPARED = 3 * DAY
_BAR = 20
LATELY = 7 * DAY
"""How far recent traffic reaches back."""


def examine(outlet: "Outlet", directory: Path, now: float) -> list[Finding]:
    """Everything about one exporter that its ledger tells."""
    where = f"ledger {directory / LEDGER}"
    findings = list(_room(directory, where))
    if not (directory / LEDGER).exists():
        text = "is not there yet: the service has not run with this configuration"
        return [*findings, Finding(Level.NOTE, where, text)]
    try:
        state = condition(directory, f"{outlet.exporter} {outlet.config.mode}", now - LATELY)
        groups = Quarantine(directory).groups(Filters())
        findings.extend(_other_mode(outlet, directory, where, now))
        findings.extend(_connections(outlet, directory))
    except StorageError as error:
        return [*findings, Finding(Level.PROBLEM, where, str(error), "see docs/operations.md, a damaged ledger")]
    findings.append(Finding(Level.OK, where, f"can be read, {state.size / 1024**2:.1f} MiB"))
    findings.extend(_sending(state, where, now))
    findings.extend(_directory(state, outlet, f"exporters::{outlet.exporter}"))
    findings.extend(_quarantine(groups, now))
    findings.extend(_policies(state, outlet, groups, now))
    return findings


def known_meters(outlet: "Outlet", directory: Path) -> frozenset[str]:
    """The meters by which the ledger knows the key's own account; none where it cannot be read."""
    try:
        return known_in(directory, f"{outlet.exporter} {outlet.config.mode}", "")
    except StorageError:
        return frozenset()


def _other_mode(outlet: "Outlet", directory: Path, where: str, now: float) -> Iterator[Finding]:
    """Usage that came while a key of the other mode was configured is not sent with this one."""
    mode = "live" if outlet.config.mode == "test" else "test"
    other = condition(directory, f"{outlet.exporter} {mode}", now - LATELY)
    if other.oldest_unsent is not None:
        text = f"it holds {mode} usage that waits to be sent, and the key is one of {outlet.config.mode} mode"
        level = Level.PROBLEM if mode == "live" else Level.NOTE
        yield Finding(level, where, text, f"put back a {mode} key to send it; each mode has a book of its own")


def _connections(outlet: "Outlet", directory: Path) -> Iterator[Finding]:
    connections, unsent = ConnectionDesk(directory, f"{outlet.exporter} {outlet.config.mode}").all()
    for account, one in sorted(connections.items()):
        where = f"exporters::{outlet.exporter}, account {account}"
        if one.usable:
            yield Finding(Level.OK, where, f"connected since {time_of(one.connected_at)} ({one.kind})")
        elif unsent.get(account) or account in outlet.accounts:
            text = f"{one.state}; {unsent.get(account, 0)} meter events wait for it"
            remedy = "connect it again with `otel-usageflow connect url`, or take it out of the policies"
            yield Finding(Level.PROBLEM, where, text, remedy)


def _room(directory: Path, where: str) -> Iterator[Finding]:
    there = next((one for one in (directory, *directory.absolute().parents) if one.exists()), None)
    free = shutil.disk_usage(there).free if there is not None else None
    if free is not None and free < _ROOM_WARNING:
        level = Level.PROBLEM if free < _ROOM_PROBLEM else Level.WARNING
        text = f"only {free / _GIB:.1f} GiB are free on its disk; when it is full, spans are refused"
        yield Finding(level, where, text, "make room, or move the ledger to a larger disk")


def _sending(state: Condition, where: str, now: float) -> Iterator[Finding]:
    waits = 0.0 if state.oldest_unsent is None else now - state.oldest_unsent
    if waits >= _GRACE:
        text = f"the oldest unsent usage ended {waits / 3600:.1f} h ago; invoices are final an hour after a period"
        yield Finding(
            Level.PROBLEM,
            where,
            text,
            "is the service running, and does Stripe answer it? Mend other problems first; then see its log",
        )
    else:
        yield Finding(Level.OK, where, "nothing has waited for an hour to be sent")
    if state.unknown:
        text = f"{state.unknown} meter events may or may not be counted"
        yield Finding(Level.WARNING, where, text, "summaries settle most within hours; the rest: `reconcile`")
    if state.open_reports:
        text = f"{state.open_reports} error reports of Stripe name only some of what was not counted"
        yield Finding(Level.WARNING, where, text, "see `reconcile`")
    compared = state.compared
    if compared.different:
        text = f"{compared.different} of {compared.pairs} customers and meters differed when they were last compared"
        yield Finding(Level.PROBLEM, where, text, "`otel-usageflow reconcile` shows each with its cause")
    elif compared.pairs and now - compared.at > _COMPARED:
        text = f"was last compared with Stripe {(now - compared.at) / DAY:.0f} days ago"
        yield Finding(Level.WARNING, where, text, "is reconcile::interval 0s, or the service down? Run `reconcile`")
    elif compared.pairs:
        yield Finding(Level.OK, where, f"agrees with Stripe for the {compared.pairs} customers and meters compared")


def _directory(state: Condition, outlet: "Outlet", where: str) -> Iterator[Finding]:
    for one in state.directories:
        name = f"{where}, account {one.account}" if one.account else where
        if one.shared:
            examples = ", ".join(shown(value) for value in one.examples)
            text = f"values of {one.field} that several customers have: {one.shared}, such as {examples}"
            remedy = "give each value to one customer only; until then its usage waits, because nobody is guessed"
            yield Finding(Level.PROBLEM, name, text, remedy)
        known = "" if one.listed else "; not all were read yet"
        yield Finding(
            Level.OK, name, f"{one.customers} customer{'s have' if one.customers != 1 else ' has'} {one.field}{known}"
        )
        if one.listing is not None:
            yield Finding(Level.NOTE, name, f"customers are being listed: {_bar(*one.listing)}")
    found = {(one.account, one.field) for one in state.directories}
    for account, field in sorted(outlet.fields - found):
        name = f"{where}, account {account}" if account else where
        text = f"no customer is known that has the metadata field {field}"
        yield Finding(Level.WARNING, name, text, "is the field right, and have customers been given it in Stripe?")


def _bar(done: int, whole: int) -> str:
    """How far a listing is; the end is known where there was one before."""
    if whole <= 0:
        return f"{done:,} so far"
    part = min(done / whole, 1.0)
    return f"[{'#' * int(_BAR * part):<{_BAR}}] {part:.0%}, {done:,} of about {whole:,}"


def _quarantine(groups: Sequence[Group], now: float) -> Iterator[Finding]:
    if not groups:
        yield Finding(Level.OK, "quarantine", "is empty")
    counts: Counter[tuple[str, str]] = Counter()
    oldest: dict[tuple[str, str], float] = {}
    for group in groups:
        key = (str(group.reason), remedy(group.reason, group.code))
        counts[key] += group.requests
        oldest[key] = min(oldest.get(key, group.oldest), group.oldest)
    for (reason, what), requests in sorted(counts.items()):
        left = oldest[reason, what] + STRIPE_PAST - now
        late = "it is too late for the oldest" if left < 0 else f"{left / DAY:.0f} days are left for the oldest"
        level = Level.PROBLEM if left < _SOON else Level.WARNING
        yield Finding(
            level, "quarantine", f"{requests} {'request' if requests == 1 else 'requests'} {reason}; {late}", what
        )


def _policies(state: Condition, outlet: "Outlet", groups: Sequence[Group], now: float) -> Iterator[Finding]:
    lost: Counter[str] = Counter()
    for group in groups:
        if group.reason == "no_user" and group.newest > now - LATELY:
            lost.update(dict.fromkeys(group.policies, group.requests))
    for policy in sorted({one.policy for one in outlet.billed}):
        where = f"policy {policy}"
        if policy in state.billed:
            yield Finding(Level.OK, where, "has billed within 7 days")
        elif lost[policy]:
            text = "has billed nothing within 7 days: no user was found on its requests"
            yield Finding(Level.PROBLEM, where, text, "`quarantine list --entries` shows which attributes they carry")
        else:
            text = "has billed nothing within 7 days"
            yield Finding(
                Level.WARNING, where, text, "right for a quiet endpoint; otherwise hold it against `discover`"
            )
