"""`otel-usageflow explain`: the proof for one line of a bill, from the request to Stripe's answer, and back."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments, parse_trace_id
from otel_usageflow.cli.ledgers import readers
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.ledger.explanation import ExplainedEvent, ExplainedRequest, ExplainedUsage

_MOMENTS = frozenset(
    ("ended_at", "timestamp", "frozen_at", "first_attempt_at", "settled_at", "asked_at", "at", "start", "waits_until")
)

_EPILOG = """\
examples:
  otel-usageflow explain --config usageflow.yaml 4bf92f3577b34da6a3ce929d0e0e4736
  otel-usageflow explain --config usageflow.yaml --event uf_6d7e21...

exit status: 0 found, 1 the ledger knows of no such trace or event, 2 the ledger cannot be read
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "explain",
        help="show why a request was billed, or what a meter event is made of",
        description="Show what became of the requests of a trace: policy, user, window, meter event, Stripe's\n"
        "answer. Or, with --event, which requests make up a meter event.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_arguments(parser)
    parser.add_argument("trace_id", metavar="TRACE_ID", nargs="?", help="32 hexadecimal digits")
    parser.add_argument("--event", metavar="IDENTIFIER", help="the identifier of a meter event")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print the explanation."""
    if (arguments.trace_id is None) == (arguments.event is None):
        raise UsageError("explain: give a TRACE_ID, or --event IDENTIFIER")
    if arguments.event is not None:
        return _explain_event(arguments)
    return _explain_trace(arguments, parse_trace_id(arguments.trace_id, "explain"))


def _explain_trace(arguments: argparse.Namespace, trace_id: bytes) -> int:
    usage: list[ExplainedUsage] = []
    pruned = ""
    with readers(arguments) as ledgers:
        for reader in ledgers:
            usage.extend(reader.explain_trace(trace_id))
            pruned = pruned or _pruned(reader.pruned_to())
    if arguments.format == "json":
        _print_json({"trace_id": trace_id.hex(), "usage": [asdict(one) for one in usage]})
    elif usage:
        for one in usage:
            sys.stdout.write("\n".join(_usage_lines(one)) + "\n\n")
    if not usage:
        sys.stderr.write(
            f"The ledger knows of no usage in trace {trace_id.hex()}: no policy billed a request of it, its spans "
            f"did not arrive, or they are older than what is kept{pruned}.\n"
        )
        return 1
    return 0


def _pruned(pruned_to: int) -> str:
    return f" (settled usage of before {_moment(pruned_to)} is pruned)" if pruned_to > 0 else ""


def _explain_event(arguments: argparse.Namespace) -> int:
    with readers(arguments) as ledgers:
        found = next(filter(None, (reader.explain_event(arguments.event) for reader in ledgers)), None)
        pruned = next(filter(None, (_pruned(reader.pruned_to()) for reader in ledgers)), "")
    if found is None:
        sys.stderr.write(f"The ledger knows of no meter event with the identifier {arguments.event!r}{pruned}.\n")
        return 1
    event, requests = found
    in_account = f" in account {event.account}" if event.account else ""
    if arguments.format == "json":
        _print_json({"event": asdict(event), "requests": [asdict(one) for one in requests]})
    else:
        sys.stdout.write(
            "\n".join(
                [
                    _line("event name", event.event_name + in_account),
                    *_event_lines(event),
                    "",
                    *_request_lines(event, requests),
                ]
            )
            + "\n"
        )
    return 0


def _usage_lines(one: "ExplainedUsage") -> Iterable[str]:
    from otel_usageflow.ledger.amount import plain

    yield f"span {one.span_id} of trace {one.trace_id}, ended {_moment(one.ended_at)}"
    yield _line("policy", one.policy)
    yield _line("user", f"{one.user}, found in {one.source}" if one.user else "none found")
    if one.seen:
        yield _line("span carried", ", ".join(one.seen))
    yield _line("event name", one.event_name + (f" in account {one.account}" if one.account else ""))
    unknown = "not known yet" if one.waits_until is not None else "none that can be billed"
    if one.same_as is not None:
        unknown = "none of its own"
    yield _line("quantity", unknown if one.quantity is None else plain(one.quantity))
    for part in one.made_of:
        number = "no number that can be billed" if part.quantity is None else plain(part.quantity)
        yield _line("summed from", f"span {part.span_id}: {part.attribute} {number}")
    if one.late_for:
        yield _line("belongs to", f"the request of span {one.late_for}, which was billed before this came")
    if one.metadata_field:
        yield _line("customer by", f"metadata {one.metadata_field}")
    if one.window is not None:
        length = f"{one.window.length} s from {_moment(one.window.start)}"
        yield _line("window", f"{length}: {_requests(one.window.requests)}, {plain(one.window.quantity)} in all")
    if one.event is not None:
        yield from _event_lines(one.event)
    if one.earlier_events:
        yield _line("given back by", ", ".join(one.earlier_events))
    if one.resolution:
        yield _line("in quarantine", f"before, for {one.resolution}")
    for decision in one.decisions:
        why = f": {decision.why}" if decision.why else ""
        told = f"{decision.action} {_moment(decision.at)} by {decision.actor}{why} (audit entry {decision.entry})"
        yield _line("decided", told)
    if one.same_as is not None:
        trace_id, span_id = one.same_as
        yield _line("same request", f"as span {span_id} of trace {trace_id}, which counts for it")
    if one.waits_until is not None:
        yield _line("waits", f"for spans of its trace until {_moment(one.waits_until)}")
    yield _line("standing", f"{one.standing}: {one.reason}" if one.reason else one.standing)


def _event_lines(event: "ExplainedEvent") -> Iterable[str]:
    from otel_usageflow.ledger.amount import plain

    yield _line("meter event", event.identifier)
    yield _line("customer", event.customer)
    what = "a correction" if event.correction is not None else _requests(event.requests)
    yield _line("value", f"{event.value} for {what}, stamped {_moment(event.timestamp)}")
    yield _line("written down", _moment(event.frozen_at))
    if event.first_attempt_at is not None:
        yield _line("attempts", f"{event.attempts}, the first {_moment(event.first_attempt_at)}")
    answer = [event.state]
    if event.settled_at is not None:
        answer.append(_moment(event.settled_at))
    answer += [text for text in (event.reason, event.code, event.answer) if text]
    if event.duplicate:
        answer.append("Stripe had it already: an earlier attempt had got through")
    if event.request_id:
        answer.append(f"Stripe's request {event.request_id}")
    for before in event.earlier:
        when = [] if before.settled_at is None else [_moment(before.settled_at)]
        told = [text for text in (before.reason, before.code, before.answer) if text]
        name = [] if before.identifier == event.identifier else [f"as {before.identifier}"]
        yield _line("before that", ", ".join([before.state, *when, *told, *name]))
    yield _line("answer", ", ".join(answer))
    for one in event.corrections:
        asked = f"asked for {_moment(one.asked_at)} by {one.actor}: {one.why}"
        yield _line(f"correction {one.number}", f"{plain(one.quantity)}, {one.state}, {asked}")
    if event.followed_by:
        yield _line("billed by", ", ".join(event.followed_by))


def _request_lines(event: "ExplainedEvent", requests: Sequence["ExplainedRequest"]) -> Iterable[str]:
    from otel_usageflow.ledger.amount import plain

    told = event.correction
    if told is not None:
        of = f" of meter event {told.corrects}" if told.corrects else ""
        asked = f"asked for {_moment(told.asked_at)} by {told.actor}: {told.why}"
        yield f"no requests: this is correction {told.number}{of}, {asked}"
        return
    if not requests:
        yield "no requests: another part of the same amount names them"
        return
    yield _requests(len(requests))
    for one in requests:
        where = f"trace {one.trace_id} span {one.span_id}"
        yield f"  {_moment(one.ended_at)}  {plain(one.quantity):>12}  {one.user}  {one.policy}  {where}"


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


def _line(name: str, text: str) -> str:
    return f"  {name:<14}{text}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _print_json(document: dict[str, object]) -> None:
    json.dump(_with_decimal_strings(document), sys.stdout, indent=2)
    sys.stdout.write("\n")


def _with_decimal_strings(value: object) -> object:
    """The same with quantities as decimal strings and moments in ISO 8601, as in all JSON of this command line."""

    if isinstance(value, list | tuple):
        return [_with_decimal_strings(one) for one in value]
    if isinstance(value, dict):
        return {name: _as_in_json(name, one) for name, one in value.items()}
    return value


def _as_in_json(name: str, value: object) -> object:
    from otel_usageflow.ledger.amount import plain

    if name == "quantity" and value is not None:
        return plain(value)  # type: ignore[arg-type]
    if name in _MOMENTS and isinstance(value, int | float):
        return _moment(value)
    return value or None if name == "account" else _with_decimal_strings(value)
