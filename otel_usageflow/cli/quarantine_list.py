"""How quarantine is shown: groups with ages and remedies, or single requests."""

import csv
import io
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from otel_usageflow.cli.output import console, shown, table, write_json, write_utf8

if TYPE_CHECKING:
    from otel_usageflow.extensions.sqlite_storage.quarantine.desk import Quarantine
    from otel_usageflow.ledger.quarantine import Filters, Group, Single

GROUP_COLUMNS = (
    "account", "reason", "code", "policy", "event_name", "metadata_field", "user", "customer", "requests", "quantity",
    "oldest", "newest", "since", "days_left", "remedy",
)  # fmt: skip
ENTRY_COLUMNS = (
    "account", "reason", "code", "policy", "event_name", "metadata_field", "user", "customer", "quantity", "ended_at",
    "trace_id", "span_id", "identifier", "seen",
)  # fmt: skip
_ONLY_FOR_MACHINES = ("metadata_field", "newest", "span_id", "remedy", "seen")
"""What a terminal has no room for; remedies and names of attributes are told below the table, once each."""
_OFTEN_EMPTY = ("account", "code", "customer", "identifier")
_TOO_LATE = "too late"
_EMPTY = "Nothing is in quarantine."
_NO_MATCH = "Nothing in quarantine fits these filters."


def print_groups(quarantines: "Sequence[Quarantine]", filters: "Filters", form: str) -> None:
    """Print what is in quarantine, in groups and in total."""
    from otel_usageflow.ledger.quarantine import remedy

    groups = [group for one in quarantines for group in one.groups(filters)]
    now = time.time()
    modes = _Modes(groups)
    if form == "json":
        write_json({"quarantine": [_group(group, now) | modes(group) for group in groups], "totals": _totals(groups)})
    elif form == "csv":
        _csv((*GROUP_COLUMNS, *modes.columns), [_group(group, now) | modes(group) for group in groups])
    elif not groups:
        console().print(_NO_MATCH if filters.any else _EMPTY)
    else:
        rows = [_readable(_group(group, now), group, now) | modes(group) for group in groups]
        _table((*modes.columns, *GROUP_COLUMNS), rows)
        console().print()
        for reason, text in dict.fromkeys((group.reason, remedy(group.reason, group.code)) for group in groups):
            console().print(f"{reason}: {shown(text)}")
        totals = ", ".join(f"{one['requests']} {one['reason']}" for one in _totals(groups))
        console().print(f"\n{sum(group.requests for group in groups)} requests in quarantine: {totals}")


def print_entries(quarantines: "Sequence[Quarantine]", filters: "Filters", limit: int, form: str) -> None:
    """Print single requests, at most `limit`."""
    found: list[Single] = []
    for one in quarantines:
        found.extend(one.singles(filters, limit + 1 - len(found)))
    more, found = len(found) > limit, found[:limit]
    modes = _Modes(found)
    values = [_entry(single) | modes(single) for single in found]
    if form == "json":
        write_json({"requests": values, "more": more})
    elif form == "csv":
        _csv(
            (*ENTRY_COLUMNS, *modes.columns),
            [{**value, "seen": " ".join(single.seen)} for value, single in zip(values, found, strict=True)],
        )
    elif not found:
        console().print(_NO_MATCH if filters.any else _EMPTY)
    else:
        _table((*modes.columns, *ENTRY_COLUMNS), values)
        for policy, seen in dict.fromkeys((single.policy, single.seen) for single in found if single.seen):
            console().print(f"\nSpans without a user for {shown(policy or '')} carried: {shown(', '.join(seen))}")
        if more:
            console().print(f"\nThere are more than {limit}; --limit N shows more.")


class _Modes:
    """Tells of what mode a line is, where there are lines of both."""

    def __init__(self, lines: "Sequence[Group | Single]") -> None:
        self.columns = ("mode",) if len({line.mode for line in lines}) > 1 else ()

    def __call__(self, line: "Group | Single") -> dict[str, object]:
        """What the line has besides."""
        return dict.fromkeys(self.columns, line.mode)


def _group(group: "Group", now: float) -> dict[str, object]:
    from otel_usageflow.ledger.amount import plain
    from otel_usageflow.ledger.quarantine import days_left, remedy

    left = days_left(group.oldest, now)
    return {
        "account": group.account or None,
        "reason": str(group.reason),
        "code": group.code or None,
        "policy": ", ".join(group.policies) or None,
        "event_name": group.event_name,
        "metadata_field": group.metadata_field,
        "user": ", ".join(group.users) or None,
        "customer": group.customer,
        "requests": group.requests,
        "quantity": plain(group.quantity),
        "oldest": _moment(group.oldest),
        "newest": _moment(group.newest),
        "since": _moment(group.since),
        "days_left": round(max(left, 0.0), 1),
        "remedy": remedy(group.reason, group.code),
    }


def _readable(values: dict[str, object], group: "Group", now: float) -> dict[str, object]:
    from otel_usageflow.ledger.quarantine import days_left

    left = values["days_left"] if days_left(group.oldest, now) > 0 else _TOO_LATE
    return {**values, "since": f"{_age(now - group.since)} ago", "days_left": left}


def _entry(single: "Single") -> dict[str, object]:
    from otel_usageflow.ledger.amount import plain

    return {
        "account": single.account or None,
        "reason": str(single.reason),
        "code": single.code or None,
        "policy": single.policy,
        "event_name": single.event_name,
        "metadata_field": single.metadata_field,
        "user": single.user or None,
        "customer": single.customer,
        "quantity": None if single.quantity is None else plain(single.quantity),
        "ended_at": _moment(single.ended_at),
        "trace_id": single.trace_id,
        "span_id": single.span_id,
        "identifier": single.identifier or None,
        "seen": list(single.seen),
    }


def _totals(groups: "Sequence[Group]") -> list[dict[str, object]]:
    requests: Counter[str] = Counter()
    for group in groups:
        requests[str(group.reason)] += group.requests
    return [{"reason": reason, "requests": count} for reason, count in sorted(requests.items())]


def _csv(columns: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    write_utf8(text.getvalue())


def _harmless(value: object) -> object:
    """A text that a spreadsheet takes as text: users are chosen by other people."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def _table(columns: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    named = [name for name in columns if name not in _ONLY_FOR_MACHINES]
    names = [name for name in named if name not in _OFTEN_EMPTY or any(row[name] for row in rows)]
    printed = table(*(name.replace("_", " ") for name in names), numbers=("requests", "quantity", "days left"))
    for row in rows:
        printed.add_row(*(shown(_cell(name, row[name])) for name in names))
    console().print(printed)


def _cell(name: str, value: object) -> str:
    text = "" if value is None else str(value)
    return text.replace("T", " ") if name in ("oldest", "ended_at") else text  # to be folded there


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _age(seconds: float) -> str:
    """How long, in the two largest units."""
    seconds = max(int(seconds), 0)
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m"
