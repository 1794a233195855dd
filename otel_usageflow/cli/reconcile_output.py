"""What `reconcile` prints: a verdict in one line, or a table of differences, each with its cause and remedy."""

import sys
from collections.abc import Sequence

from otel_usageflow.cli.moments import written
from otel_usageflow.cli.output import console, shown, table, write_json
from otel_usageflow.cli.reconcile_books import Result
from otel_usageflow.ledger.amount import plain
from otel_usageflow.ledger.reconcile import EXPLAINED, Difference

_COLUMNS = ("from", "to", "event_name", "customer", "ledger", "stripe", "difference", "cause")


def show(results: Sequence[Result], form: str) -> None:
    """Print what came of comparing."""
    if form == "json":
        write_json(_document(results))
        return
    found = [one for result in results for one in result.differences]
    if found:
        _table(found)
    for result in results:
        for pair, why in result.not_comparable:
            sys.stdout.write(f"not compared: {pair.event_name} {pair.customer}: {shown(why)}\n")
        sys.stdout.write(_verdict(result) + "\n")


def _verdict(result: Result) -> str:
    left_out = f"; {result.left_out} hours left out, in which something was settled a moment ago"
    told = f"; {len(result.not_comparable)} could not be compared" if result.not_comparable else ""
    told += left_out if result.left_out else ""
    if not result.pairs:
        return f"{result.book.name}: the ledger has no meter events in this time{told}"
    compared = result.pairs - len(result.not_comparable)
    what = f"{compared} customers and meters from {written(result.since)} to {written(result.until)}"
    many = len(result.differences)
    verdict = {0: "no difference", 1: "1 difference"}.get(many, f"{many} differences")
    return f"{result.book.name}: {verdict} in {what}, {result.reads} reads{told}"


def _values(one: Difference) -> dict[str, object]:
    return {
        "from": written(one.start),
        "to": written(one.end),
        "account": one.pair.account or None,
        "event_name": one.pair.event_name,
        "customer": one.pair.customer,
        "ledger": plain(one.ledger),
        "stripe": plain(one.stripe),
        "difference": plain(one.difference),
        "cause": str(one.cause),
        "events": list(one.events),
        "likely": EXPLAINED[one.cause][0],
        "remedy": EXPLAINED[one.cause][1],
        "correctable": one.correctable,
    }


def _document(results: Sequence[Result]) -> dict[str, object]:
    return {
        "books": [
            {
                "book": result.book.name,
                "since": written(result.since),
                "until": written(result.until),
                "compared": result.pairs - len(result.not_comparable),
                "reads": result.reads,
                "hours_left_out": result.left_out,
                "not_compared": [
                    {**pair._asdict(), "account": pair.account or None, "why": why}
                    for pair, why in result.not_comparable
                ],
                "differences": [_values(one) for one in result.differences],
            }
            for result in results
        ]
    }


def _table(found: Sequence[Difference]) -> None:
    names = [*_COLUMNS]
    if any(one.pair.account for one in found):
        names.insert(2, "account")
    printed = table(*(name.replace("_", " ") for name in names), numbers=("ledger", "stripe", "difference"))
    for one in found:
        values = _values(one)
        values |= {name: str(values[name]).replace("T", " ") for name in ("from", "to")}  # to be folded there
        printed.add_row(*(shown("" if values[name] is None else str(values[name])) for name in names))
    console().print(printed)
    for one in found:
        if one.events:
            sys.stdout.write(f"{one.cause} from {written(one.start)}: meter events {shown(' '.join(one.events))}\n")
    for cause in dict.fromkeys(one.cause for one in found):
        likely, remedy = EXPLAINED[cause]
        sys.stdout.write(f"{cause}: {likely}. {remedy[0].upper()}{remedy[1:]}.\n")
