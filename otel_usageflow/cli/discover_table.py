"""The tables that `discover` prints for people."""

import textwrap

from rich.console import Console
from rich.table import Table

from otel_usageflow.cli.output import shown, table
from otel_usageflow.policy.discovery.count import Findings, PlaceCount
from otel_usageflow.policy.discovery.document import endpoints_in_order, places_in_order
from otel_usageflow.policy.discovery.facts import Place, could_be_user
from otel_usageflow.policy.discovery.kind import REASONS, EndpointKind
from otel_usageflow.policy.discovery.remarks import remarks
from otel_usageflow.policy.discovery.template import written


def print_findings(found: Findings, console: Console, *, values: bool) -> None:
    """Print endpoints first, then what could name users, then what else is to be known."""
    console.print(f"{found.spans} spans, {found.requests} requests among them")
    if found.endpoints:
        console.print("\nEndpoints", style="bold")
        console.print(_endpoints(found))
    places = places_in_order(found)
    for title, wanted in (("Could name a user", True), ("Also on the requests", False)):
        chosen = [(place, count) for place, count in places if could_be_user(place) is wanted]
        if chosen:
            console.print(f"\n{title}", style="bold")
            console.print(_places(chosen, values=values))
    for remark in remarks(found):
        console.print(f"\n{textwrap.fill(shown(remark.text), 110)}")


def _endpoints(found: Findings) -> Table:
    lines = table("method", "path", "requests", "statuses", "services", "remark")
    for (method, template), count, kind in endpoints_in_order(found):
        lines.add_row(
            shown(method or "?"),
            shown(written(template)),
            str(count.requests),
            ", ".join(f"{status or 'none'}: {number}" for status, number in count.statuses_in_order()),
            shown(", ".join(sorted(count.services))),
            "" if kind is EndpointKind.API else REASONS[kind],
        )
    return lines


def _places(places: list[tuple[Place, PlaceCount]], *, values: bool) -> Table:
    columns = ("source", "name", "requests", "usable", "distinct", "redacted", *(("values",) if values else ()))
    lines = table(*columns, numbers=("requests", "usable", "distinct", "redacted"))
    for place, count in places:
        distinct = f"over {len(count.distinct) - 1}" if count.over else str(len(count.distinct))
        cells = [place.source, place.name, str(count.requests), str(count.usable), distinct]
        cells.append(str(count.redacted) if count.redacted else "")
        if values:
            cells.append("(not shown)" if place.secret else ", ".join(count.samples))
        lines.add_row(*map(shown, cells))
    return lines
