"""The table that `preview` prints for people."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otel_usageflow.policy.preview import CountLine, Preview
from otel_usageflow.policy.text import decimal_text

_MOST = 15
"""Endpoints and attributes that are listed where something did not match."""


def print_preview(result: Preview, console: Console) -> None:
    """Print usage first, then everything that was not billed and why."""
    console.print(f"{_count(result.spans, 'span')}, {_count(result.requests, 'HTTP request')} among them")
    if result.malformed:
        console.print(f"{_count(result.malformed, 'SERVER span')} without valid ids, which cannot be billed")
    if result.usage:
        console.print(_usage(result))
    for title, lines in (("Quarantined", result.quarantined), ("Not billed", result.unbilled)):
        if lines:
            console.print(_counts(title, lines))
    for policy, names in sorted(result.seen.items()):
        listed = ", ".join(name for name, _ in names.most_common(_MOST))
        console.print(f"[bold]{escape(policy)}[/]: the requests without a user carried {escape(listed)}")
    if result.unmatched_requests:
        console.print(_unmatched(result))
    for hint in _hints(result):
        console.print(hint)


def _usage(result: Preview) -> Table:
    table = Table("policy", "event name", "customer by", "user", title="Usage", title_justify="left")
    table.add_column("requests", justify="right")
    table.add_column("quantity", justify="right")
    for line in result.usage:
        by = "its id" if line.metadata_field is None else f"metadata {line.metadata_field}"
        cells = (line.policy, line.event_name, by, line.user, str(line.requests), decimal_text(line.quantity))
        table.add_row(*(escape(_shown(cell)) for cell in cells))
    return table


def _counts(title: str, lines: list[CountLine]) -> Table:
    table = Table("policy", "reason", title=title, title_justify="left")
    table.add_column("requests", justify="right")
    for line in lines:
        table.add_row(escape(line.policy), escape(line.reason), str(line.requests))
    return table


def _unmatched(result: Preview) -> Table:
    title = f"{_count(result.unmatched_requests, 'request')} matched no policy"
    table = Table("method", "route or path", title=title, title_justify="left")
    table.add_column("requests", justify="right")
    for (method, where), requests in result.unmatched.most_common(_MOST):
        table.add_row(escape(_shown(method)), escape(_shown(where)), str(requests))
    if len(result.unmatched) > _MOST:
        others = sum(requests for _, requests in result.unmatched.most_common()[_MOST:])
        table.add_row("", f"{len(result.unmatched) - _MOST} others", str(others))
    return table


def _hints(result: Preview) -> Iterator[str]:
    if not result.spans:
        yield "The input holds no spans."
    elif not result.requests:
        yield "No span is an HTTP request: that takes kind SERVER and an http.* or url.* attribute."
    elif not result.usage and not result.quarantined and not result.unbilled:
        yield "No policy matches any request; compare their endpoints with the table above."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _shown(text: str) -> str:
    """Text that comes from spans, without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
