"""The list of endpoints: what each takes, which bucket it draws from, and who answers.

A further endpoint, of `/v2` too, is a line here and a function in the file of its subject.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from otel_usageflow.testing.stripe import (
    adjustments,
    connected_accounts,
    core_events,
    customers,
    event_log,
    meter_events,
    meters,
    search,
    sessions,
    stream,
    summaries,
)
from otel_usageflow.testing.stripe.account import Account, LockKey
from otel_usageflow.testing.stripe.keyring import key_of
from otel_usageflow.testing.stripe.message import Body, Request
from otel_usageflow.testing.stripe.params import Param
from otel_usageflow.testing.stripe.rate_limit import Limit

Values = Mapping[str, Any]
IDEMPOTENCY_KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Job:
    """One checked call: what an endpoint's function works on."""

    account: Account
    request: Request
    target: str
    """The id in the path, empty where there is none."""
    values: Values


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the list."""

    params: Mapping[str, Param]
    run: Callable[[Job], Body]
    limit: Limit = Limit.BASIC
    lock: Callable[[Job], LockKey | None] | None = None


def _create_meter_event(job: Job) -> Body:
    key = job.request.headers.get(IDEMPOTENCY_KEY)
    return meter_events.create(job.account.intake, job.values, key)


def _stream(job: Job) -> Body:
    job.account.limiter.admit_events(len(job.values["events"]))
    return stream.create(job.account.intake, job.values, job.request.headers.get(IDEMPOTENCY_KEY))


ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {
    ("POST", "/v1/billing/meter_events"): Endpoint(
        meter_events.CREATE,
        _create_meter_event,
        Limit.METER_EVENTS,
        lambda job: meter_events.lock_of(job.account.intake, job.values),
    ),
    ("POST", "/v2/billing/meter_event_session"): Endpoint(
        sessions.CREATE, lambda job: job.account.sessions.create(job.account)
    ),
    ("POST", stream.PATH): Endpoint(
        stream.CREATE,
        _stream,
        Limit.STREAM,
    ),
    ("POST", "/v1/billing/meter_event_adjustments"): Endpoint(
        adjustments.CREATE,
        lambda job: adjustments.create(job.account.intake, job.values, job.account.livemode),
    ),
    ("GET", "/v1/billing/meters"): Endpoint(meters.LIST, lambda job: job.account.meters.list(job.values)),
    ("POST", "/v1/billing/meters"): Endpoint(meters.CREATE, lambda job: job.account.meters.create(job.values)),
    ("GET", "/v1/billing/meters/*"): Endpoint(
        meters.RETRIEVE, lambda job: job.account.meters.retrieve(job.target, job.values)
    ),
    ("POST", "/v1/billing/meters/*"): Endpoint(
        meters.UPDATE, lambda job: job.account.meters.update(job.target, job.values)
    ),
    ("POST", "/v1/billing/meters/*/deactivate"): Endpoint(
        meters.DEACTIVATE, lambda job: job.account.meters.deactivate(job.target, job.values)
    ),
    ("POST", "/v1/billing/meters/*/reactivate"): Endpoint(
        meters.REACTIVATE, lambda job: job.account.meters.reactivate(job.target, job.values)
    ),
    ("GET", "/v1/billing/meters/*/event_summaries"): Endpoint(
        summaries.LIST, lambda job: summaries.list_summaries(job.account.intake, job.target, job.values)
    ),
    ("GET", "/v1/customers"): Endpoint(customers.LIST, lambda job: job.account.customers.list(job.values)),
    ("POST", "/v1/customers"): Endpoint(customers.CREATE, lambda job: job.account.customers.create(job.values)),
    ("GET", "/v1/customers/search"): Endpoint(
        search.SEARCH, lambda job: job.account.search.search(job.values), Limit.SEARCH
    ),
    ("GET", "/v1/customers/*"): Endpoint(
        customers.RETRIEVE, lambda job: job.account.customers.retrieve(job.target, job.values)
    ),
    ("POST", "/v1/customers/*"): Endpoint(
        customers.UPDATE, lambda job: job.account.customers.update(job.target, job.values)
    ),
    ("DELETE", "/v1/customers/*"): Endpoint(
        customers.DELETE, lambda job: job.account.customers.delete(job.target, job.values)
    ),
    ("GET", "/v1/account"): Endpoint(
        connected_accounts.RETRIEVE, lambda job: connected_accounts.own(job.account.name)
    ),
    ("GET", "/v1/accounts"): Endpoint(
        connected_accounts.LIST,
        lambda job: connected_accounts.list_accounts(
            job.account.connections, job.values, key_of(job.request.headers), job.account.livemode
        ),
    ),
    ("GET", "/v1/accounts/*"): Endpoint(
        connected_accounts.RETRIEVE,
        lambda job: connected_accounts.retrieve(
            job.account.connections, job.target, key_of(job.request.headers), job.account.livemode
        ),
    ),
    ("GET", "/v1/events"): Endpoint(event_log.LIST, lambda job: job.account.log.list(job.values)),
    ("GET", "/v1/events/*"): Endpoint(
        event_log.RETRIEVE, lambda job: job.account.log.retrieve(job.target, job.values)
    ),
    ("GET", "/v2/core/events"): Endpoint(
        core_events.LIST | core_events.PAGE,
        lambda job: core_events.list_events(
            job.account.reports, job.account.intake.settings, job.values, job.request.pairs
        ),
    ),
    ("GET", "/v2/core/events/*"): Endpoint(
        core_events.RETRIEVE,
        lambda job: core_events.retrieve(job.account.reports, job.account.intake.settings, job.target),
    ),
}

_FIXED = frozenset({"v1", "v2", "core", "billing", "meters", "customers", "events", "search", "accounts"})


def find_endpoint(method: str, path: str) -> tuple[Endpoint, str] | None:
    """The endpoint of a call and the id in its path; None where Stripe, or this double, has none."""
    endpoint = ENDPOINTS.get((method, path))
    if endpoint is not None:
        return endpoint, ""
    segments = path.split("/")
    for place in range(2, len(segments)):
        if segments[place] and segments[place] not in _FIXED:
            pattern = "/".join((*segments[:place], "*", *segments[place + 1 :]))
            endpoint = ENDPOINTS.get((method, pattern))
            if endpoint is not None:
                return endpoint, segments[place]
    return None
