"""The tables that `preview` prints for people."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from otel_usageflow.cli.output import shown, table
from otel_usageflow.policy.preview import CountLine, Preview
from otel_usageflow.policy.text import decimal_text

_MOST = 15
"""Endpoints and attributes that are listed where something did not match."""


def print_preview(result: Preview, console: Console) -> None:
    """Print usage first, then everything that was not billed and why."""
    console.print(f"{_count(result.spans, 'span')}, {_count(result.requests, 'request')} among them")
    if result.malformed:
        console.print(f"{_count(result.malformed, 'SERVER span')} without valid ids, which cannot be billed")
    for title, lines in _tables(result):
        console.print(f"\n{title}", style="bold")
        console.print(lines)
    for policy, failed in sorted(result.failed_conditions.items()):
        console.print(
            f"\n{policy}: its condition failed for {_count(failed, 'request')}, which counts as false; an attribute "
            "is missing, or two types do not go together"
        )
    for policy, names in sorted(result.seen.items()):
        listed = ", ".join(shown(name) for name, _ in names.most_common(_MOST))
        console.print(f"\n{policy}: the requests without a user carried {listed}")
    for policy, cut_short in sorted(result.cut_short.items()):
        console.print(
            f"\n{policy}: {_count(cut_short, 'request')} without a user lost attributes to a limit of the SDK; the "
            "user may have been among them"
        )
    for finding in result.missing:
        console.print(f"\n{shown(finding.text)}. Remedy: {finding.remedy}")
    for hint in _hints(result):
        console.print(f"\n{hint}")


def _tables(result: Preview) -> Iterator[tuple[str, Table]]:
    if result.usage:
        yield "Usage", _usage(result)
    if result.quarantined:
        yield "Quarantined", _counts(result.quarantined)
    if result.unbilled:
        yield "Not billed", _counts(result.unbilled)
    if result.unmatched_requests:
        yield f"{_count(result.unmatched_requests, 'request')} matched no policy", _unmatched(result)


def _usage(result: Preview) -> Table:
    lines = table("policy", "event name", "customer by", "user", "requests", "quantity")
    for line in result.usage:
        by = "its id" if line.metadata_field is None else f"metadata {line.metadata_field}"
        cells = (line.policy, line.event_name, by, line.user, str(line.requests), decimal_text(line.quantity))
        lines.add_row(*map(shown, cells))
    return lines


def _counts(counts: list[CountLine]) -> Table:
    lines = table("policy", "reason", "requests")
    for line in counts:
        lines.add_row(line.policy, line.reason, str(line.requests))
    return lines


def _unmatched(result: Preview) -> Table:
    lines = table("method", "route or path", "requests")
    most = result.unmatched.most_common()
    for (method, where), requests in most[:_MOST]:
        lines.add_row(shown(method), shown(where), str(requests))
    if others := most[_MOST:]:
        lines.add_row("", f"{len(others)} others", str(sum(requests for _, requests in others)))
    return lines


def _hints(result: Preview) -> Iterator[str]:
    if not result.spans:
        yield "The input holds no spans."
    elif not result.requests:
        yield "No span is an HTTP request: that takes kind SERVER and an http.* or url.* attribute."
    elif not result.usage and not result.quarantined and not result.unbilled:
        yield "No policy matches any request; compare their endpoints with the table above."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
