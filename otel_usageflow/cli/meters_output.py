"""What `meters` prints: verdicts with their remedies, and lists, as tables or JSON."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from otel_usageflow.cli.output import console, shown, table, write_json

if TYPE_CHECKING:
    from otel_usageflow.cli.billed import Outlet
    from otel_usageflow.exporters.stripe_meter.feeding import Meter
    from otel_usageflow.exporters.stripe_meter.needed_meters import Needed


def show_needed(judged: "Sequence[tuple[Outlet, Sequence[Needed]]]", form: str) -> None:
    """Print what was found about every meter that policies need."""
    if form == "json":
        write_json({"exporters": [_needed_json(outlet, needs) for outlet, needs in judged]})
        return
    for outlet, needs in judged:
        _headline(outlet)
        if not needs:
            sys.stdout.write("no policy bills anything through it\n")
            continue
        lines = table("verdict", "event name", "account", "policies")
        for one in needs:
            lines.add_row(
                str(one.verdict), shown(one.event_name), shown(one.account) or "own", shown(", ".join(one.policies))
            )
        console().print(lines)
        if any(one.why or one.notes for one in needs):
            sys.stdout.write("\n")
        for one in needs:
            if one.why:
                sys.stdout.write(f"{shown(one.event_name)}: {shown(one.why)}.\n  remedy: {shown(one.remedy)}\n")
            for note in one.notes:
                sys.stdout.write(f"{shown(one.event_name)}: note: {note}\n")


def show_meters(found: "Sequence[tuple[Outlet, Mapping[str, Sequence[Meter]]]]", form: str) -> None:
    """Print every meter, and which policies feed it."""
    if form == "json":
        write_json({"exporters": [_meters_json(outlet, accounts) for outlet, accounts in found]})
        return
    for outlet, accounts in found:
        _headline(outlet)
        lines = table("event name", "account", "status", "aggregation", "meter", "policies")
        for account, meters in accounts.items():
            for meter in _sorted(meters):
                window = f" per {meter.event_time_window}" if meter.event_time_window else ""
                lines.add_row(
                    shown(meter.event_name),
                    shown(account) or "own",
                    "active" if meter.active else "inactive",
                    shown(meter.formula) + window,
                    shown(meter.id),
                    shown(", ".join(_policies(outlet, account, meter))) or "-",
                )
        if lines.row_count:
            console().print(lines)
        else:
            sys.stdout.write("no meters; make those that the policies need with: otel-usageflow meters create\n")


def _headline(outlet: "Outlet") -> None:
    sys.stdout.write(f"{outlet.exporter}, {outlet.config.mode} mode\n")


def _needed_json(outlet: "Outlet", needs: "Sequence[Needed]") -> dict[str, Any]:
    return {
        "exporter": outlet.exporter,
        "mode": outlet.config.mode,
        "meters": [
            {
                "verdict": str(one.verdict),
                "event_name": one.event_name,
                "account": one.account or None,
                "policies": list(one.policies),
                "meter": one.meter.id if one.meter is not None else None,
                "why": one.why or None,
                "remedy": one.remedy or None,
                "notes": list(one.notes),
            }
            for one in needs
        ],
    }


def _meters_json(outlet: "Outlet", accounts: "Mapping[str, Sequence[Meter]]") -> dict[str, Any]:
    return {
        "exporter": outlet.exporter,
        "mode": outlet.config.mode,
        "meters": [
            {
                "event_name": meter.event_name,
                "account": account or None,
                "display_name": meter.display_name,
                "status": "active" if meter.active else "inactive",
                "formula": meter.formula,
                "event_time_window": meter.event_time_window,
                "customer_key": meter.customer_key,
                "value_key": meter.value_key,
                "meter": meter.id,
                "policies": _policies(outlet, account, meter),
            }
            for account, meters in accounts.items()
            for meter in _sorted(meters)
        ],
    }


def _policies(outlet: "Outlet", account: str, meter: "Meter") -> list[str]:
    place = (account, meter.event_name)
    return sorted({one.policy for one in outlet.billed if (one.account, one.event_name) == place})


def _sorted(meters: "Sequence[Meter]") -> "list[Meter]":
    return sorted(meters, key=lambda meter: (meter.event_name, meter.id))
