"""The exporter: usage goes into the ledger and is acknowledged; from there it goes to Stripe in its own time."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

import structlog

from otel_usageflow.component import Change, Context, Measurement
from otel_usageflow.delivery.batches import Batch
from otel_usageflow.delivery.sender import Sender
from otel_usageflow.delivery.setting import Delivery
from otel_usageflow.errors import StartError
from otel_usageflow.exporters.stripe_meter.account import Account
from otel_usageflow.exporters.stripe_meter.answers import explained, outcome_of
from otel_usageflow.exporters.stripe_meter.api import StripeApi, connect
from otel_usageflow.exporters.stripe_meter.background import Background, Surroundings
from otel_usageflow.exporters.stripe_meter.companies import Companies
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.connect_service import Connecting, access_of
from otel_usageflow.exporters.stripe_meter.directory_measurements import deliveries, directories
from otel_usageflow.exporters.stripe_meter.limits import Paces
from otel_usageflow.exporters.stripe_meter.measurements import attempts, calls, doubts, reconciliation, traces
from otel_usageflow.exporters.stripe_meter.pace_measurements import paces
from otel_usageflow.exporters.stripe_meter.reconciler import waiting_time
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM, Rhythm
from otel_usageflow.exporters.stripe_meter.session import Sessions
from otel_usageflow.exporters.stripe_meter.stream import MOST, Stream
from otel_usageflow.exporters.stripe_meter.webhook import OUTCOMES, Listeners, Webhook
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.ledger.former import filed
from otel_usageflow.ledger.freeze import Formula, FreezeRules, Lane
from otel_usageflow.ledger.ledger import Storage
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Outcome, Refused, Retry
from otel_usageflow.model.usage import Reason, Terms, UsageBatch

_log = structlog.get_logger(__name__)

_PATIENCE = 5.0
"""Seconds to wait for Stripe, at the start and when policies change. It need not be there: spans are taken anyway."""
_READS_AT_ONCE = 8
"""Accounts whose meters are read at one time."""


class StripeMeterExporter:
    """Bills usage through Stripe meter events."""

    def __init__(self, config: StripeMeterConfig, context: Context, rhythm: Rhythm = RHYTHM) -> None:
        self._config = config
        self._rhythm = rhythm
        self._id = context.id
        self._now = context.clock
        storage: Storage = context.extensions[config.sending_queue.storage]
        book = f"{context.id} {config.mode}"
        self._ledger = storage.ledger(book, config.aggregation.length)
        self._extensions = context.extensions
        self._terms = tuple(_in_account(terms, config.account) for terms in context.terms)
        self._accounts: dict[str, Account] = {}
        self._companies = Companies(
            book, config.account, self._accounts.__contains__, self._follow, self._ledger.recognise
        )
        self._api: StripeApi | None = None
        self._stream: Stream | None = None
        self._stack = AsyncExitStack()
        self._background: Background | None = None
        self._paces = Paces(config)
        self.connecting = (
            None
            if config.connect is None
            else Connecting(config, config.connect, context, self._ledger.connections, book)
        )
        self._webhook: Webhook | None = None
        if config.webhook is not None:
            ended = None if self.connecting is None else self.connecting.deauthorized
            listeners = Listeners(self._accounts, self._reported, ended)
            self._webhook = Webhook(config.webhook, context.id, config.mode == "live", listeners)
            self._webhook_admin = context.extensions[config.webhook.admin]
        self._sender = Sender(
            self._ledger,
            Delivery(
                send=self._send,
                rules=self._rules,
                refused=_tell_refused,
                backoff=config.retry_on_failure.backoff,
                pace=self._paces.of,
                most=MOST if config.streams else 1,
                window=config.aggregation.length,
                wall=self._now,
            ),
        )

    async def export(self, batch: UsageBatch) -> None:
        """Return once the usage is in the ledger, on the disk."""
        if batch.caller is not None:
            self._companies.admit(batch.caller)
        if not (batch.records or batch.unflagged or batch.trace_requests or batch.trace_spans):
            return
        if self._config.account is not None:
            batch = _batch_in_account(batch, self._config.account)
        committed = await self._ledger.commit(batch, self._now())
        if committed.billed and self._config.aggregation.one_by_one:
            self._sender.wake()
        if committed.due is not None:
            self._sender.expect_traces(committed.due)

    async def expect(self, terms: tuple[Terms, ...]) -> Change:
        """Prepare for other policies: read their meters, and get to know their accounts and metadata fields.

        Raises:
            StartError: a meter exists and can never be fed correctly.
        """
        assert self._api is not None
        terms = tuple(_in_account(one, self._config.account) for one in terms)
        new = {
            name: self._account(self._api, name, of) for name, of in _by_account(terms) if name not in self._accounts
        }
        other = {(one.account, one.event_name) for one in set(terms) - set(self._terms)}
        looked_at = _by_account(one for one in terms if (one.account, one.event_name) in other)
        await self._refuse_unfit_meters([({**self._accounts, **new}[name], of) for name, of in looked_at])

        known = [*await self._ledger.places({one.policy for one in terms}), *map(filed, self._terms)]

        def apply() -> None:
            assert self._background is not None
            self._terms = terms
            self._companies.expect(terms, known, self._now())
            for name in self._companies.apart & self._accounts.keys():
                self._accounts[name].expect(self._companies.terms_in(name))
            for name, of in _by_account(terms):
                if name not in self._accounts:
                    self._accounts[name] = new[name]
                    self._background.follow(new[name])
                elif name not in self._companies.apart:
                    self._accounts[name].expect(of)
            self._background.expect(terms)

        return Change(apply)

    async def watch(self) -> None:
        """Run until one of the background tasks fails, which they never should."""
        assert self._background is not None
        await self._background.failed()

    async def measure(self) -> Sequence[Measurement]:
        """What the exporter shows on `/metrics`."""
        unsettled = doubts(self._id, *await self._ledger.doubts.open_counts())
        sums = self._ledger.sums
        waits = waiting_time(await sums.oldest_unsent(), self._now())
        compared = reconciliation(self._id, await sums.compared(), waits)
        waiting = await self._ledger.waiting_traces()
        spans = self._sender.traces
        summed = traces(self._id, waiting.requests, spans["late"], spans["unclaimed"] + waiting.given_up)
        sent = calls(self._id, self._sender.calls)
        customers = directories(self._id, [account.directory for account in self._accounts.values()])
        heard = deliveries(self._id, OUTCOMES, self._webhook.counts if self._webhook is not None else {})
        return [
            *attempts(self._id, self._sender.counts),
            *sent,
            *paces(self._id, self._paces.by_account),
            *unsettled,
            *compared,
            *summed,
            *customers,
            *heard,
        ]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as starting:
            if self.connecting is not None:
                await starting.enter_async_context(self.connecting)
            access = access_of(self.connecting)
            self._api = await starting.enter_async_context(connect(self._config, self._paces, access))
            self._stream = Stream(self._api, Sessions(self._api.create_session), self._config)
            # Usage of a policy that is gone, or of a field that was renamed, still has to be billed.
            unfinished = await self._ledger.unfinished()
            places = await self._ledger.places({one.policy for one in self._terms})
            self._companies.begin(await self._ledger.token_accounts(), self._terms, places, self._now())
            apart = {one.account for one in places} & self._companies.apart
            theirs = [one for name in apart for one in self._companies.terms_in(name)]
            for name, of in _by_account((*self._terms, *unfinished, *theirs)):
                self._accounts[name] = self._account(self._api, name, of)
            if not self._accounts:
                name = self._config.account or ""
                self._accounts[name] = self._account(self._api, name, ())
            billed = dict(_by_account(self._terms))
            await self._refuse_unfit_meters([(one, billed.get(name, [])) for name, one in self._accounts.items()])
            if self._webhook is not None:
                self._webhook.mount(self._webhook_admin)
            self._stack = starting.pop_all()  # nothing failed: it is closed when the exporter is left
        self._background = Background(
            Surroundings(
                self._id,
                self._config,
                self._ledger,
                self._accounts,
                self._now,
                self._rhythm,
                lambda: self._sender.counts["accepted"],
                self._sender.wake,
            ),
            self._api,
            self._terms,
        )
        self._sending = self._background.run(self._sender.run(), "sender")
        self._background.start()
        self._companies.follow_tokens(self._extensions)
        if self.connecting is not None:
            self._background.run(self.connecting.follow(), "connections")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._background is not None
        if self._webhook is not None:
            self._webhook.close()
        self._companies.stop()
        self._sender.stop()
        try:
            await asyncio.gather(self._sending, return_exceptions=True)
            await self._background.stop()
        finally:
            await self._stack.aclose()

    def _follow(self, name: str, terms: Sequence[Terms]) -> None:
        """Begin with an account that came while the service runs; what has to be read is read in the background."""
        assert self._api is not None
        assert self._background is not None
        self._accounts[name] = self._account(self._api, name, terms)
        self._background.follow(self._accounts[name])

    def _account(self, api: StripeApi, name: str, terms: Sequence[Terms]) -> Account:
        return Account(
            api,
            self._ledger,
            name,
            terms,
            self._config.customers.refresh,
            self._config.retry_on_failure.backoff,
            self._sender.wake,
        )

    def _reported(self, account: str) -> None:
        if self._background is not None:
            self._background.reported(account)

    async def _refuse_unfit_meters(self, billed: Sequence[tuple[Account, Sequence[Terms]]]) -> None:
        """Do not begin with a meter that would be fed wrongly; a Stripe that does not answer is no reason not to."""
        turns = asyncio.Semaphore(_READS_AT_ONCE)
        found = await asyncio.gather(*(self._unfit_meters(account, terms, turns) for account, terms in billed))
        if unfit := [text for texts in found for text in texts]:
            raise StartError("\n".join(f"exporters::{self._id}: {text}" for text in unfit))

    async def _unfit_meters(self, account: Account, terms: Sequence[Terms], turns: asyncio.Semaphore) -> list[str]:
        try:
            async with asyncio.timeout(_PATIENCE), turns:
                return list(map(str, await account.unfit_meters(terms)))
        except (*StripeFailure, TimeoutError) as error:
            when = "start" if self._background is None else "reload"
            _log.warning(
                f"stripe_not_readable_at_{when}",
                account=account.name or "own",
                why=explained(error),
                meaning="spans are taken and kept; nothing is sent until the meters are known",
            )
        return list(map(str, account.known_unfit_meters(terms)))

    async def _send(self, batch: Batch) -> Outcome:
        assert self._api is not None  # entered before anything is sent
        account = self._accounts.get(batch.account)
        if account is None:  # everything of it was frozen, in an earlier life
            self._follow(batch.account, ())
            return Retry("its meters were not read yet", everyone=True)
        if self.connecting is not None and (obstacle := self.connecting.obstacle(batch.account)) is not None:
            return obstacle
        if not account.meters_known:
            return Retry("its meters could not be read yet", everyone=True)
        if batch.key:
            assert self._stream is not None
            return await self._stream.send(batch, account.meter)
        (event,) = batch.events
        try:
            return Accepted(await self._api.create_meter_event(event, account.meter(event.event_name)))
        except StripeFailure as error:
            if self.connecting is not None:
                self.connecting.noticed(batch.account, error)
            return outcome_of(error)

    def _rules(self, busy: Callable[[Lane], bool]) -> FreezeRules:
        meters: dict[tuple[str, str], Formula | Reason] = {}
        listed: set[tuple[str, str]] = set()
        for account in self._accounts.values():
            meters.update(account.feedings())
            listed.update((account.name, field) for field in account.directory.complete)
        return FreezeRules(
            now=self._now(),
            max_window=int(self._config.aggregation.max_window.total_seconds()),
            one_by_one=self._config.aggregation.one_by_one,
            meters=meters,
            listed=listed,
            busy=busy,
        )


def _by_account(terms: Iterable[Terms]) -> list[tuple[str, list[Terms]]]:
    """Terms by their account, in the order of its name; empty for the key's own."""
    found: dict[str, list[Terms]] = {}
    for one in terms:
        found.setdefault(one.account or "", []).append(one)
    return sorted(found.items())


def _batch_in_account(batch: UsageBatch, account: str) -> UsageBatch:
    return replace(
        batch,
        records=[record._replace(terms=_in_account(record.terms, account)) for record in batch.records],
        trace_requests=[
            waiting._replace(record=waiting.record._replace(terms=_in_account(waiting.record.terms, account)))
            for waiting in batch.trace_requests
        ],
    )


def _in_account(terms: Terms, account: str | None) -> Terms:
    if terms.account is not None or account is None:
        return terms
    return replace(terms, account=account)


def _tell_refused(event: MeterEvent, outcome: Refused) -> None:
    _log.error(
        "meter_event_refused",
        account=event.account or "own",
        event_name=event.event_name,
        identifier=event.identifier,
        reason=outcome.reason,
        why=outcome.why,
        request_id=outcome.request_id,
    )
