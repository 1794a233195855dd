"""The double's state as one JSON file, so that it survives a restart: written when it stops, read when it starts.

In it are meters, customers, events, meter events (rejected ones too, with their reports), idempotency keys, connected
accounts and the shift of the clock; not the faults, nor what else was asked to go wrong, nor tokens and webhooks.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from otel_usageflow.testing.stripe.account import Account
from otel_usageflow.testing.stripe.api import Api
from otel_usageflow.testing.stripe.book import MeterEvent
from otel_usageflow.testing.stripe.bulk import Bulk
from otel_usageflow.testing.stripe.connections import Connection
from otel_usageflow.testing.stripe.customer import Customer
from otel_usageflow.testing.stripe.error_reports import Report
from otel_usageflow.testing.stripe.event_log import LoggedEvent
from otel_usageflow.testing.stripe.idempotency import Entry, whole
from otel_usageflow.testing.stripe.message import Answer, JsonObject
from otel_usageflow.testing.stripe.meters import Meter
from otel_usageflow.testing.stripe.rejections import Rejected

FORMAT = 1
_NOT_OF_EVENTS = frozenset({"livemode", "meter", "cancelled", "lost", "foreign"})


def save(api: Api, path: Path) -> None:
    """Write the state beside `path`, then move it there, so that no half file is ever seen."""
    books = [account.book for account in api.accounts.values()]
    cancelled = {event: at for book in books for event, at in book.cancelled.items()}
    lost = {event for book in books for event in book.lost}
    foreign = {event for book in books for event in book.foreign}
    text = json.dumps(
        {
            "format": FORMAT,
            "advanced": api.shared.clock.advanced,
            "connections": [dataclasses.asdict(one) for one in api.connections.kept],
            "accounts": [_account_state(account) for account in api.accounts.values()],
            "accepted": [
                _event_state(event)
                | {"cancelled": cancelled.get(event), "lost": event in lost, "foreign": event in foreign}
                for event in api.shared.accepted
            ],
        }
    )
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    draft.replace(path)


def load(api: Api, path: Path) -> None:
    """Read the state into an `Api` that is still empty.

    Raises:
        ValueError: the file is no state of this version.
    """
    state = json.loads(path.read_text())
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is no state of this Stripe double; remove it to start afresh")
    api.shared.clock.advance(state["advanced"])
    for connection in state.get("connections", ()):
        api.connections.restore(Connection(**connection))
    for part in state["accounts"]:
        _restore_account(api.account(part["name"], part["livemode"]), part)
    for part in state["accepted"]:
        account = api.account(part["account"], part["livemode"])
        event = _event(account, part)
        account.book.add(event)
        if part["cancelled"]:
            account.book.cancel(event, part["cancelled"])
        if part.get("lost"):
            account.book.lose(event, forget=False)
        if part.get("foreign"):
            account.book.foreign.append(event)
    for part in state["accounts"]:
        account = api.account(part["name"], part["livemode"])
        for report in part.get("reports", ()):
            _restore_report(account, report)
        for key, mark, since, answer in part["idempotency"]:
            account.idempotency.restore(key, Entry(bytes.fromhex(mark), since, Answer(*answer)))


def _account_state(account: Account) -> JsonObject:
    return {
        "name": account.name,
        "livemode": account.livemode,
        "meters": [dataclasses.asdict(meter) for meter in account.meters.all],
        "customers": [
            [changed, dataclasses.asdict(customer)]
            for _, history in sorted(account.customers.history.items())
            for changed, customer in history.versions[-1:]
        ],
        "bulks": [_bulk_state(bulk) for bulk in account.customers.all.bulks],
        "events": [dataclasses.asdict(event) for event in account.log.entries],
        "reports": [_report_state(report) for report in account.reports.all],
        "idempotency": [
            [key, entry.mark.hex(), entry.since, _answer_state(whole(entry.answer))]
            for key, entry in account.idempotency.finished()
            if entry.answer is not None
        ],
    }


def _bulk_state(bulk: Bulk) -> JsonObject:
    names = (one.name for one in dataclasses.fields(bulk) if not one.name.startswith("_"))
    return {name: getattr(bulk, name) for name in names}


def _report_state(report: Report) -> JsonObject:
    return {
        "id": report.id,
        "meter_id": report.meter_id,
        "start": report.start,
        "created": report.created,
        "rejected": [dataclasses.asdict(event) for event in report.rejected],
    }


def _answer_state(answer: Answer) -> list[Any]:
    body = answer.body if isinstance(answer.body, dict) else answer.body.render()
    return [answer.status, body, dict(answer.headers)]


def _event_state(event: MeterEvent) -> JsonObject:
    return {
        "account": event.account,
        "livemode": event.livemode,
        "meter": event.meter.id,
        "identifier": event.identifier,
        "customer": event.customer,
        "value_text": event.value_text,
        "timestamp": event.timestamp,
        "received": event.received,
        "idempotency_key": event.idempotency_key,
        "extra": event.extra,
    }


def _restore_account(account: Account, part: JsonObject) -> None:
    for meter in part["meters"]:
        account.meters.restore(Meter(**meter))
    for bulk in part.get("bulks", ()):
        account.customers.all.put_many(Bulk(**bulk))
    for changed, customer in part["customers"]:
        account.customers.restore(Customer(**customer), changed)
    for event in part["events"]:
        account.log.restore(LoggedEvent(**event))


def _restore_report(account: Account, part: JsonObject) -> None:
    events = [Rejected(**event) for event in part["rejected"]]
    names = ("id", "meter_id", "start", "created")
    head: JsonObject = {name: part[name] for name in names}
    account.reports.restore(Report(livemode=account.livemode, account=account.name, rejected=events, **head))
    for event in events:
        account.book.reject(event)


def _event(account: Account, part: JsonObject) -> MeterEvent:
    values = {name: value for name, value in part.items() if name not in _NOT_OF_EVENTS}
    return MeterEvent(meter=account.meters.find(part["meter"]), **values)
