"""`otel-usageflow meters`: the meters in Stripe, held against the policies."""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments, load_config
from otel_usageflow.cli.connect_access import connected_access
from otel_usageflow.cli.people import confirmed
from otel_usageflow.errors import StartError

if TYPE_CHECKING:
    from otel_usageflow.cli.billed import Outlet
    from otel_usageflow.exporters.stripe_meter.feeding import Meter
    from otel_usageflow.exporters.stripe_meter.needed_meters import Needed

    Found = Mapping[str, Sequence[Meter]]
    """Account -> its meters."""

_EPILOG = """\
A policy's event_name must be the event name of an active meter in its account, one that sums and has no
event_time_window. Without one, usage is kept and waits.

exit status of check: 0 every meter fits, 2 Stripe could not be read, 3 something would not be billed as it is meant

examples:
  otel-usageflow meters check --config usageflow.yaml
  otel-usageflow meters create --config usageflow.yaml
  otel-usageflow meters list --config usageflow.yaml --format json
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its subcommands."""
    parser = subparsers.add_parser(
        "meters",
        help="list, check or create the meters that the policies bill",
        description="List, check or create the meters in Stripe that the policies bill.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = commands.add_parser(
        "check",
        help="compare the policies with Stripe's meters; exit 3 if one does not fit",
        description="Compare the policies with Stripe's meters. Changes nothing.",
        epilog="exit status: 0 every meter fits, 2 Stripe could not be read, 3 something would not be billed as it is"
        " meant; example: otel-usageflow meters check --config usageflow.yaml",
    )
    create = commands.add_parser(
        "create",
        help="make the meters that are missing, after showing them",
        description="Show the meters that policies name and that Stripe does not have, ask, and make them: active, "
        "with aggregation sum. The key needs write access to meters, which the service itself does not.",
        epilog="example: otel-usageflow meters create --config usageflow.yaml --yes",
    )
    listing = commands.add_parser(
        "list",
        help="all meters of the accounts that are billed",
        description="List all meters of the accounts that are billed, and which policies feed them.",
        epilog="example: otel-usageflow meters list --config usageflow.yaml --format json",
    )
    for command, run in ((check, _check), (create, _create), (listing, _list)):
        add_config_arguments(command)
        command.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
        command.set_defaults(run=run)
    create.add_argument("--yes", action="store_true", help="do not ask")


def _check(arguments: argparse.Namespace) -> int:
    from otel_usageflow.cli.meters_output import show_needed

    judged = [(outlet, _judge(outlet, found)) for outlet, found in _read(arguments)]
    show_needed(judged, arguments.format)
    return _status(judged)


def _create(arguments: argparse.Namespace) -> int:
    from otel_usageflow.cli.meters_output import show_needed
    from otel_usageflow.exporters.stripe_meter.needed_meters import Verdict

    read = _read(arguments)
    judged = [(outlet, _judge(outlet, found)) for outlet, found in read]
    missing = [(outlet, [one for one in needs if one.verdict is Verdict.MISSING]) for outlet, needs in judged]
    count = sum(len(needs) for _, needs in missing)
    if count:
        sys.stderr.write("These meters are missing. Each will sum the quantities of its meter events:\n")
        for outlet, needs in missing:
            for one in needs:
                where = f"account {one.account}" if one.account else "the key's own account"
                policies = ", ".join(one.policies)
                sys.stderr.write(f"  {one.event_name}  in {where}, {outlet.config.mode} mode; for {policies}\n")
        if not confirmed("Shall they be made? A meter can never be deleted.", yes=arguments.yes):
            return 3
        for outlet, needs in missing:
            asyncio.run(_make(outlet, needs))
        judged = [(outlet, _judge(outlet, found)) for outlet, found in _read(arguments)]
    show_needed(judged, arguments.format)
    return _status(judged)


def _status(judged: "Sequence[tuple[Outlet, list[Needed]]]") -> int:
    """3 if a meter would not bill what is meant, or if it is not known of all whether they would."""
    from otel_usageflow.exporters.stripe_meter.needed_meters import Verdict

    unread = any({one.account for one in needs} != set(outlet.accounts) for outlet, needs in judged if needs)
    return 3 if unread or any(one.verdict is not Verdict.OK for _, needs in judged for one in needs) else 0


def _list(arguments: argparse.Namespace) -> int:
    from otel_usageflow.cli.meters_output import show_meters

    show_meters(_read(arguments), arguments.format)
    return 0


def _read(arguments: argparse.Namespace) -> "list[tuple[Outlet, Found]]":
    from otel_usageflow.cli.billed import outlets

    return [(outlet, asyncio.run(_meters(outlet))) for outlet in outlets(load_config(arguments))]


def _judge(outlet: "Outlet", found: "Found") -> "list[Needed]":
    from otel_usageflow.exporters.stripe_meter.needed_meters import needed

    return needed((one for one in outlet.billed if one.account in found), found)


async def _meters(outlet: "Outlet") -> "Found":
    from otel_usageflow.exporters.stripe_meter.api import connect
    from otel_usageflow.exporters.stripe_meter.wire import StripeFailure

    found = {}
    failures: list[StartError] = []
    async with connect(
        outlet.config, access=connected_access(outlet.exporter, outlet.config, outlet.directory)
    ) as api:
        for account in outlet.accounts:
            try:
                found[account] = await api.meters(account)
            except StripeFailure as error:
                failures.append(_failed(outlet, account, "read", error))
    if failures and not found:
        raise failures[0]
    for failure in failures:  # one company whose account is gone keeps nobody from seeing the others' meters
        sys.stderr.write(f"{failure}\n")
    return found


async def _make(outlet: "Outlet", needs: "Sequence[Needed]") -> None:
    """Make meters. One that somebody else has made meanwhile is as good."""
    from otel_usageflow.exporters.stripe_meter.api import connect
    from otel_usageflow.exporters.stripe_meter.wire import StripeFailure

    async with connect(
        outlet.config, access=connected_access(outlet.exporter, outlet.config, outlet.directory)
    ) as api:
        for one in needs:
            try:
                await api.create_meter(one.account, one.event_name)
            except StripeFailure as error:
                try:  # also an answer that was lost: what counts is whether it is there
                    there = any(meter.event_name == one.event_name for meter in await api.meters(one.account))
                except StripeFailure:
                    there = False
                if not there:
                    raise _failed(outlet, one.account, f"create the meter {one.event_name!r}", error) from error
            sys.stderr.write(f"{one.event_name}: made\n")


def _failed(outlet: "Outlet", account: str, what: str, error: BaseException) -> StartError:
    from otel_usageflow.exporters.stripe_meter.answers import remedy_for, what_happened

    where = f", account {account}" if account else ""
    doing = "its meters cannot be read" if what == "read" else f"cannot {what}"
    return StartError(f"exporters::{outlet.exporter}{where}: {doing}: {what_happened(error)}; {remedy_for(error)}")
