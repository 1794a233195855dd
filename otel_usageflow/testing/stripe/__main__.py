"""`python -m otel_usageflow.testing.stripe`: the double as a process of its own."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any, get_args

from otel_usageflow.testing.stripe.certificates import Certificate
from otel_usageflow.testing.stripe.double import DEFAULT_CLIENTS, DEFAULT_KEY, StripeDouble
from otel_usageflow.testing.stripe.settings import SETTABLE, RateLimits, Settings
from otel_usageflow.testing.stripe.snapshot import load, save

_EXAMPLES = """\
examples:
  a double for a service under test, on the usual port
    python -m otel_usageflow.testing.stripe --meter api_request --customer account_id=acme
  bad events get a 200 first and an error report 5 s after their window
    python -m otel_usageflow.testing.stripe --meter api_request --validation asynchronous --report-delay 5
  the next 3 good events are rejected after their 200, as if their customer had gone
    python -m otel_usageflow.testing.stripe --meter api_request --reject api_request:meter_event_customer_not_found:3

While it runs, it is steered and read below /_double/; see docs/testing.md."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m otel_usageflow.testing.stripe",
        description="A stateful double of Stripe meters on 127.0.0.1. Prints its URL, runs until SIGTERM.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=12111, help="0 picks a free one (default: 12111)")
    parser.add_argument("--api-key", action="append", metavar="KEY", help=f"may be repeated ({DEFAULT_KEY})")
    parser.add_argument(
        "--meter",
        action="append",
        default=[],
        metavar="NAME[:FORMULA]",
        help="a meter by its event name; FORMULA is sum, count or last (default: sum)",
    )
    parser.add_argument(
        "--customer",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a customer with this metadata",
    )
    parser.add_argument(
        "--customers",
        action="append",
        default=[],
        metavar="N:FIELD=PATTERN",
        help="N customers at once; `{}` in PATTERN is their number from 0, as in 1000000:account_id=user-{}",
    )
    parser.add_argument("--connect", action="append", default=[], metavar="ACCOUNT", help="a connected account")
    parser.add_argument("--client-id", action="append", metavar="ID", help="of the platform, for OAuth")
    parser.add_argument(
        "--redirect-uri", action="append", default=[], metavar="URL", help="where OAuth may send browsers back to"
    )
    parser.add_argument(
        "--webhook",
        action="append",
        default=[],
        metavar="[thin:]URL[#SECRET]",
        help="is told of events, snapshot events unless it begins with thin:",
    )
    parser.add_argument(
        "--certificate", choices=get_args(Certificate), help="speak TLS, with a certificate that is good or is not"
    )
    parser.add_argument("--state", type=Path, metavar="FILE", help="read at start, written at the end")
    parser.add_argument("--latency", type=float, default=0.002, metavar="SECONDS", help="of a meter event")
    parser.add_argument("--search-lag", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--summary-lag", type=float, default=0, metavar="SECONDS")
    parser.add_argument(
        "--validation",
        choices=("synchronous", "asynchronous"),
        default="synchronous",
        help="asynchronous: bad meter events are answered 200 and appear in an error report of /v2/core/events",
    )
    parser.add_argument(
        "--report-delay", type=float, default=0, metavar="SECONDS", help="after a report's window of 10 s"
    )
    parser.add_argument(
        "--report-samples", type=int, default=10, metavar="N", help="per report and code; may be 0 (default: 10)"
    )
    parser.add_argument(
        "--reject",
        action="append",
        default=[],
        metavar="NAME:CODE[:TIMES]",
        help="answer the next TIMES events (default: 1) of this event name 200, and reject them later",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"any other setting, VALUE in JSON or a word: {', '.join(SETTABLE)}",
    )
    parser.add_argument("--duplicates", choices=("refuse", "ignore"), default="refuse")
    parser.add_argument("--no-rate-limits", action="store_true")
    parser.add_argument(
        "--sandbox-limits", action="store_true", help="the rate limits of a sandbox, not of live mode"
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="calls a second, such as basic=25, or null for none; see RateLimits",
    )
    return parser


def _limits(args: argparse.Namespace) -> RateLimits:
    if args.no_rate_limits:
        return RateLimits.off()
    return RateLimits.sandbox() if args.sandbox_limits else RateLimits()


def _double(args: argparse.Namespace) -> StripeDouble:
    settings = Settings(
        limits=_limits(args),
        latency=args.latency,
        duplicates=args.duplicates,
        search_lag=args.search_lag,
        summary_lag=args.summary_lag,
        validation=args.validation,
        report_delay=args.report_delay,
        report_samples=args.report_samples,
    )
    return StripeDouble(
        args.api_key or DEFAULT_KEY,
        client_ids=args.client_id or DEFAULT_CLIENTS,
        settings=settings,
        certificate=args.certificate,
        port=args.port,
    )


def _prepare(double: StripeDouble, args: argparse.Namespace) -> None:
    if args.state is not None and args.state.exists():
        load(double.api, args.state)
    for text in args.set:
        name, _, value = text.partition("=")
        double.settings.change({name: _word_or_json(value)})
    for text in args.limit:
        name, _, value = text.partition("=")
        double.settings.limits.change({name: _word_or_json(value)})
    account = double.account()
    for text in args.meter:
        name, _, formula = text.partition(":")
        if formula not in ("", "sum", "count", "last"):
            raise ValueError(f"--meter {text}: the formula is sum, count or last")
        if account.meters.named(name) is None:
            double.add_meter(name, formula or "sum")
    for text in args.customer:
        field, equals, value = text.partition("=")
        if not equals or not field:
            raise ValueError(f"--customer {text}: write FIELD=VALUE")
        if all(dict(customer.metadata) != {field: value} for customer in account.customers.all.kept.values()):
            double.add_customer({field: value})
    for text in args.customers:
        count, _, rest = text.partition(":")
        field, equals, pattern = rest.partition("=")
        if not count.isdecimal() or not equals or not field:
            raise ValueError(f"--customers {text}: write N:FIELD=PATTERN, such as 1000000:account_id=user-{{}}")
        if all((bulk.field, bulk.value) != (field, pattern) for bulk in account.customers.all.bulks):
            double.add_customers(int(count), field, pattern)
    for name in args.connect:
        double.connect_account(name)
    double.oauth.redirect_uris += args.redirect_uri
    for text in args.webhook:
        kind, url = ("thin", text.removeprefix("thin:")) if text.startswith("thin:") else ("snapshot", text)
        address, _, secret = url.partition("#")
        double.add_webhook(address, "thin" if kind == "thin" else "snapshot", secret=secret or None)
    for text in args.reject:
        event_name, _, rest = text.partition(":")
        code, _, times = rest.partition(":")
        if not event_name or not code or not (times.isdecimal() or not times):
            raise ValueError(f"--reject {text}: write NAME:CODE or NAME:CODE:TIMES")
        double.reject(event_name, code, times=int(times or "1"))


def _word_or_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _announce(double: StripeDouble) -> None:
    lines = [double.url, "", "exporters:", "  stripe_meter:", f"    api_key: {double.api_key}", "    endpoints:"]
    lines += [f"      {name}: {double.url}" for name in ("api", "meter_events", "connect")]
    lines += ["", *(f"meter {meter.event_name} {meter.id}" for meter in double.account().meters.all)]
    customers = double.account().customers.all
    for customer in customers.kept.values():
        shown = " ".join(f"{field}={value}" for field, value in customer.metadata.items())
        lines.append(f"customer {customer.id} {shown}".rstrip())
    lines += [
        f"customers {bulk.count} from {bulk.id_of(0)} {bulk.field}={bulk.value}"
        for bulk in customers.bulks
        if isinstance(bulk.value, str)
    ]
    lines += [f"webhook {one.url} {one.secret}" for one in double.webhooks.endpoints]
    if double.authority is not None:
        lines.append(f"authority {double.authority}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


async def _run(double: StripeDouble) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with double:
        _announce(double)
        await stop.wait()


def main() -> int:
    """Run until SIGTERM or SIGINT; 0 then, 1 when an argument makes no sense, 2 when it cannot start."""
    args = _parser().parse_args()
    double = _double(args)
    try:
        _prepare(double, args)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        asyncio.run(_run(double))
    except OSError as error:
        sys.stderr.write(f"cannot listen on port {args.port}: {error}\n")
        return 2
    if args.state is not None:
        save(double.api, args.state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
