"""What an exporter does beside taking and sending usage: it follows each account, and looks back at what was sent."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from otel_usageflow.exporters.stripe_meter.account import Account
from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.corrections import Corrector, Sources
from otel_usageflow.exporters.stripe_meter.doubts import Settler
from otel_usageflow.exporters.stripe_meter.reconciler import Reconciler, Watched
from otel_usageflow.exporters.stripe_meter.releases import Releaser
from otel_usageflow.exporters.stripe_meter.reports import Reports
from otel_usageflow.exporters.stripe_meter.rhythm import Rhythm
from otel_usageflow.exporters.stripe_meter.summaries import ReadPace, Summaries
from otel_usageflow.ledger.ledger import Ledger
from otel_usageflow.model.usage import Terms


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the work in the background needs of its exporter. `now` is unix seconds."""

    id: str
    config: StripeMeterConfig
    ledger: Ledger
    accounts: Mapping[str, Account]
    """All that are followed; it may grow."""
    now: Callable[[], float]
    rhythm: Rhythm
    sent: Callable[[], int]
    """How many events Stripe has taken since the start."""
    wake_sender: Callable[[], None]


class Background:
    """Runs it, for the accounts that there are and for those that come."""

    def __init__(self, of: Surroundings, api: StripeApi, terms: Sequence[Terms]) -> None:
        self._of = of
        self._api = api
        self._summaries = Summaries(api, ReadPace(of.rhythm.reads_per_second, of.rhythm.reads_per_hour))
        self._releaser = Releaser(of.ledger.releases, of.accounts, terms, of.now, of.rhythm, of.wake_sender)
        self._reports: dict[str, Reports] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()

    def start(self) -> None:
        """Begin, with every account that there is."""
        of = self._of
        for account in of.accounts.values():
            self.follow(account)
        backoff = of.config.retry_on_failure.backoff
        corrector = Corrector(
            Sources(
                of.ledger.corrections,
                of.ledger.sums,
                self._api,
                self._summaries,
                of.accounts,
                of.now,
                backoff,
                of.rhythm,
            )
        )
        reconciler = Reconciler(
            Watched(
                of.ledger.sums,
                self._api,
                self._summaries,
                of.accounts,
                of.config.reconcile,
                of.config.unsent_warning.total_seconds(),
                of.now,
                backoff,
                of.rhythm,
            )
        )
        self.run(corrector.follow(), "corrections")
        self.run(reconciler.follow(), "reconciling")
        self.run(self._releaser.follow(), "releases")

    def follow(self, account: Account) -> None:
        """Begin with one more account: its meters and customers, what Stripe reports late, what is in doubt."""
        of, ledger = self._of, self._of.ledger.doubts
        reports = Reports(self._api, ledger, account.name, account.event_names_by_meter, of.sent, of.now, of.rhythm)
        self._reports[account.name] = reports
        settler = Settler(ledger, self._summaries, account, of.now, of.rhythm, reports.are_read)
        where = account.name or "own"
        self.run(account.follow(), f"{where} account")
        self.run(reports.follow(), f"{where} reports")
        self.run(settler.follow(), f"{where} doubts")

    def reported(self, account: str) -> None:
        """A webhook says that Stripe has reported errors of this account's events: read them."""
        if (reports := self._reports.get(account)) is not None:
            reports.read_soon()

    def expect(self, terms: Sequence[Terms]) -> None:
        """These are what the policies bill now."""
        self._releaser.expect(terms)

    def run(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run something else, which `failed` watches as well."""
        task = asyncio.create_task(work, name=f"{self._of.id} {name}")
        task.add_done_callback(self._ended.put_nowait)
        self._tasks.append(task)
        return task

    async def failed(self) -> None:
        """Wait until one of the tasks fails, which they never should; raise why."""
        while True:
            (await self._ended.get()).result()

    async def stop(self) -> None:
        """End all of it; what was awaited to end before has."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
