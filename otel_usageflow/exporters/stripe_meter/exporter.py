"""The exporter: usage goes into the ledger and is acknowledged; from there it goes to Stripe in its own time."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

import structlog

from otel_usageflow.component import Context, Measurement
from otel_usageflow.delivery.sender import Delivery, Sender
from otel_usageflow.errors import StartError
from otel_usageflow.exporters.stripe_meter.account import Account
from otel_usageflow.exporters.stripe_meter.answers import explained, outcome_of
from otel_usageflow.exporters.stripe_meter.api import StripeApi, StripeFailure, connect
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.corrections import Corrector, Sources
from otel_usageflow.exporters.stripe_meter.doubts import Settler
from otel_usageflow.exporters.stripe_meter.measurements import attempts, doubts, reconciliation
from otel_usageflow.exporters.stripe_meter.reconciler import Reconciler, Watched, waiting_time
from otel_usageflow.exporters.stripe_meter.releases import Releaser
from otel_usageflow.exporters.stripe_meter.reports import Reports
from otel_usageflow.exporters.stripe_meter.rhythm import RHYTHM, Rhythm
from otel_usageflow.exporters.stripe_meter.summaries import ReadPace, Summaries
from otel_usageflow.ledger.freeze import Formula, FreezeRules, Lane
from otel_usageflow.ledger.ledger import Storage
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Outcome, Refused, Retry
from otel_usageflow.model.usage import Reason, Terms, UsageBatch

_log = structlog.get_logger(__name__)

_PATIENCE_AT_START = 5.0
"""Seconds to wait for Stripe at the start. It need not be there: spans are taken without it."""


class StripeMeterExporter:
    """Bills usage through Stripe meter events."""

    def __init__(self, config: StripeMeterConfig, context: Context, rhythm: Rhythm = RHYTHM) -> None:
        self._config = config
        self._rhythm = rhythm
        self._id = context.id
        self._now = context.clock
        storage: Storage = context.extensions[config.sending_queue.storage]
        self._ledger = storage.ledger(f"{context.id} {config.mode}", config.aggregation.length)
        self._terms = tuple(_in_account(terms, config.account) for terms in context.terms)
        self._accounts: dict[str, Account] = {}
        self._api: StripeApi | None = None
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._sender = Sender(
            self._ledger,
            Delivery(
                send=self._send,
                rules=self._rules,
                refused=_tell_refused,
                backoff=config.retry_on_failure.backoff,
                calls_per_second=config.calls_per_second,
                window=config.aggregation.length,
                wall=self._now,
            ),
        )

    async def export(self, batch: UsageBatch) -> None:
        """Return once the usage is in the ledger, on the disk."""
        if not batch.records and not batch.unflagged:
            return
        if self._config.account is not None:
            records = [r._replace(terms=_in_account(r.terms, self._config.account)) for r in batch.records]
            batch = UsageBatch(records=records, unflagged=batch.unflagged)
        committed = await self._ledger.commit(batch, self._now())
        if committed.billed and self._config.aggregation.one_by_one:
            self._sender.wake()

    async def watch(self) -> None:
        """Run until one of the background tasks fails, which they never should."""
        for done in asyncio.as_completed(self._tasks):
            await done

    async def measure(self) -> Sequence[Measurement]:
        """What the exporter shows on `/metrics`."""
        unsettled = doubts(self._id, *await self._ledger.doubts.open_counts())
        sums = self._ledger.sums
        waits = waiting_time(await sums.oldest_unsent(), self._now())
        compared = reconciliation(self._id, await sums.compared(), waits)
        return [*attempts(self._id, self._sender.counts), *unsettled, *compared]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as starting:
            self._api = await starting.enter_async_context(connect(self._config))
            await self._open_accounts(self._api)
            await self._refuse_unfit_meters()
            self._stack = starting.pop_all()  # nothing failed: it is closed when the exporter is left
        self._tasks = [
            asyncio.create_task(self._sender.run(), name=f"{self._id} sender"),
            *(
                asyncio.create_task(account.follow(), name=f"{self._id} {account.name or 'own'} account")
                for account in self._accounts.values()
            ),
            *self._look_back(self._api),
        ]
        return self

    def _look_back(self, api: StripeApi) -> Iterator[asyncio.Task[None]]:
        """What follows up on events that were sent: Stripe's late reports, and what its summaries show."""
        ledger, summaries = (
            self._ledger.doubts,
            Summaries(api, ReadPace(self._rhythm.reads_per_second, self._rhythm.reads_per_hour)),
        )
        corrector = Corrector(
            Sources(
                self._ledger.corrections,
                self._ledger.sums,
                api,
                summaries,
                self._accounts,
                self._now,
                self._config.retry_on_failure.backoff,
                self._rhythm,
            )
        )
        yield asyncio.create_task(corrector.follow(), name=f"{self._id} corrections")
        reconciler = self._reconciler(api, summaries)
        yield asyncio.create_task(reconciler.follow(), name=f"{self._id} reconciling")
        releaser = Releaser(
            self._ledger.releases, self._accounts, self._terms, self._now, self._rhythm, self._sender.wake
        )
        yield asyncio.create_task(releaser.follow(), name=f"{self._id} releases")
        for account in self._accounts.values():
            reports = Reports(
                api,
                ledger,
                account.name,
                account.event_names_by_meter,
                lambda: self._sender.counts["accepted"],
                self._now,
                self._rhythm,
            )
            settler = Settler(ledger, summaries, account, self._now, self._rhythm, reports.are_read)
            where = f"{self._id} {account.name or 'own'}"
            yield asyncio.create_task(reports.follow(), name=f"{where} reports")
            yield asyncio.create_task(settler.follow(), name=f"{where} doubts")

    def _reconciler(self, api: StripeApi, summaries: Summaries) -> Reconciler:
        return Reconciler(
            Watched(
                self._ledger.sums,
                api,
                summaries,
                self._accounts,
                self._config.reconcile,
                self._config.unsent_warning.total_seconds(),
                self._now,
                self._config.retry_on_failure.backoff,
                self._rhythm,
            )
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.stop()
        sender, *followers = self._tasks
        for follower in followers:
            follower.cancel()
        try:
            await asyncio.gather(sender, return_exceptions=True)
            await asyncio.gather(*followers, return_exceptions=True)
        finally:
            await self._stack.aclose()

    async def _open_accounts(self, api: StripeApi) -> None:
        # Usage of a policy that is gone, or of a field that was renamed, still has to be billed.
        terms = (*self._terms, *await self._ledger.unfinished())
        for name in sorted({one.account or "" for one in terms} or {self._config.account or ""}):
            self._accounts[name] = Account(
                api,
                self._ledger,
                name,
                [one for one in terms if (one.account or "") == name],
                self._config.customers.refresh,
                self._config.retry_on_failure.backoff,
                self._sender.wake,
            )

    async def _refuse_unfit_meters(self) -> None:
        """Do not start with a meter that would be fed wrongly; a Stripe that does not answer is no reason."""
        unfit: list[str] = []
        for account in self._accounts.values():
            billed = sorted({one.event_name for one in self._terms if (one.account or "") == account.name})
            try:
                async with asyncio.timeout(_PATIENCE_AT_START):
                    unfit.extend(map(str, await account.unfit_meters(billed)))
            except (*StripeFailure, TimeoutError) as error:
                _log.warning(
                    "stripe_not_readable_at_start",
                    account=account.name or "own",
                    why=explained(error),
                    meaning="spans are taken and kept; nothing is sent until the meters are known",
                )
        if unfit:
            raise StartError("\n".join(f"exporters::{self._id}: {text}" for text in unfit))

    async def _send(self, event: MeterEvent) -> Outcome:
        assert self._api is not None  # entered before anything is sent
        account = self._accounts[event.account]
        if not account.meters_known:
            return Retry("its meters could not be read yet", everyone=True)
        try:
            return Accepted(await self._api.create_meter_event(event, account.meter(event.event_name)))
        except StripeFailure as error:
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


def _in_account(terms: Terms, account: str | None) -> Terms:
    if terms.account is not None or account is None:
        return terms
    return replace(terms, account=account)


def _tell_refused(event: MeterEvent, outcome: Refused) -> None:
    _log.error(
        "meter_event_refused",
        event_name=event.event_name,
        identifier=event.identifier,
        reason=outcome.reason,
        why=outcome.why,
        request_id=outcome.request_id,
    )
