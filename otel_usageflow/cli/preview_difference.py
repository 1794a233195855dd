"""What `preview --against` prints for people: one line when nothing differs, else tables of what does."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from otel_usageflow.cli.output import shown, table
from otel_usageflow.policy.preview_difference import CountChange, Difference
from otel_usageflow.policy.text import decimal_text

_COLUMNS = ("before", "after", "difference")


def print_difference(found: Difference, console: Console) -> None:
    """Print what differs; "before" is the other configuration."""
    if found.equal:
        console.print(f"no difference: both bill the same for {found.requests[1]} requests in {found.spans} spans")
        return
    console.print(f"The bills of {found.spans} spans differ. Before: --against; after: --config.")
    for title, lines in _tables(found):
        console.print(f"\n{title}", style="bold")
        console.print(lines)


def _tables(found: Difference) -> Iterator[tuple[str, Table]]:
    if found.usage:
        yield "Usage", _usage(found)
    if found.quarantined:
        yield "Quarantined", _counts(found.quarantined)
    if found.unbilled:
        yield "Not billed", _counts(found.unbilled)
    totals = table("", *_COLUMNS, numbers=_COLUMNS)
    for name, (before, after) in (("requests", found.requests), ("without a policy", found.unmatched_requests)):
        if before != after:
            totals.add_row(name, str(before), str(after), f"{after - before:+}")
    if totals.row_count:
        yield "Requests", totals


def _usage(found: Difference) -> Table:
    with_account = any(line.account is not None for line in found.usage)
    with_payload = any(line.payload for line in found.usage)
    columns = ["policy", "event name", "customer by", "user"]
    columns += [*(["account"] if with_account else []), *(["payload"] if with_payload else [])]
    numbers = ("requests before", "after", "quantity before", "after ", "difference")
    lines = table(*columns, *numbers, numbers=numbers)
    for line in found.usage:
        by = "its id" if line.metadata_field is None else f"metadata {line.metadata_field}"
        cells = [line.policy, line.event_name, by, line.user, *([line.account or ""] if with_account else [])]
        if with_payload:
            cells.append(", ".join(f"{name}: {value}" for name, value in line.payload))
        change = decimal_text(line.quantity)
        cells += [
            str(line.before.requests),
            str(line.after.requests),
            decimal_text(line.before.quantity),
            decimal_text(line.after.quantity),
            change if change.startswith("-") or change == "0" else f"+{change}",
        ]
        lines.add_row(*map(shown, cells))
    return lines


def _counts(counts: list[CountChange]) -> Table:
    lines = table("policy", "reason", *_COLUMNS, numbers=_COLUMNS)
    for line in counts:
        lines.add_row(line.policy, line.reason, str(line.before), str(line.after), f"{line.after - line.before:+}")
    return lines
