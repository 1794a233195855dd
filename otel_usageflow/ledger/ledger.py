"""What a ledger can do: the protocol that every storage implements.

Every method is one transaction, and returns when it is durable. A storage that cannot write raises
`Unavailable`, and has then written nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from otel_usageflow.ledger.connections import Connections
from otel_usageflow.ledger.correction import Corrections
from otel_usageflow.ledger.doubt import Doubts
from otel_usageflow.ledger.former import Filed, Former
from otel_usageflow.ledger.freeze import FreezeRules
from otel_usageflow.ledger.ingest_tokens import IngestTokens
from otel_usageflow.ledger.listing import Listing
from otel_usageflow.ledger.reconcile import ComparedSums
from otel_usageflow.ledger.releases import Releases
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Outcome
from otel_usageflow.model.usage import Reason, Terms, UsageBatch


class Committed(NamedTuple):
    """What a commit did: new charges, charges that were there already, and new quarantine by reason."""

    billed: int
    duplicates: int
    quarantined: Mapping[Reason, int]
    due: float | None = None
    """When something has to be decided about the traces of this commit, unix seconds; see `Ledger.settle_traces`."""


class TracesSettled(NamedTuple):
    """What became of requests whose quantity is summed over their trace."""

    next_due: float | None
    """When something is to be decided again, unix seconds; None if nothing waits."""
    requests: int = 0
    """Requests that were decided about."""
    billed: int = 0
    """New charges, of requests and of late spans."""
    late: int = 0
    """Spans that came too late for their request, and are usage of their own."""
    unclaimed: int = 0
    """Spans with numbers that belong to no request: work in the background, or of a service without a request."""


class WaitingTraces(NamedTuple):
    """Requests that wait for spans of their trace."""

    requests: int
    oldest: float | None
    """When the oldest of them ended, unix seconds."""
    given_up: int = 0
    """Spans with a number of which no request came within a day, since the start."""


class CustomerChange(NamedTuple):
    """What a customer's metadata says now. `values` has only the fields asked for; None: it was deleted."""

    customer: str
    values: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class DirectoryState:
    """How far the customer directory of one account is. Times are unix seconds, 0 for never."""

    listed: Mapping[str, float]
    """Metadata field -> when a listing that included it was completed."""
    cursor: float
    """Stripe's `created` of the last change that was applied."""
    customers: int
    """How many the last complete listing has shown."""
    generation: int = 0
    """What the last listing, and what came since, is marked with."""
    listing: Listing | None = None
    """The one that is not finished."""


class Waiting(NamedTuple):
    """Usage that waits for something to appear in Stripe."""

    account: str
    reason: Reason
    event_name: str
    metadata_field: str | None
    user: str


class Ledger(Protocol):
    """The book of one exporter: charges, windows, meter events, quarantine and the customer directory."""

    @property
    def corrections(self) -> Corrections:
        """What people asked to have corrected."""

    @property
    def sums(self) -> ComparedSums:
        """What Stripe must have counted, and when it was compared."""

    @property
    def connections(self) -> Connections:
        """The accounts that were connected with `connect url`."""

    @property
    def releases(self) -> Releases:
        """What the ledger releases by itself when the cause is gone."""

    @property
    def doubts(self) -> Doubts:
        """What sending left open, and what Stripe reports late."""

    async def commit(self, batch: UsageBatch, now: float) -> Committed:
        """Take usage. What is there already is not taken twice."""

    async def settle_traces(self, now: float) -> TracesSettled:
        """File requests whose wait for spans of their trace is over, and late spans.

        If there are many, a part of them: `next_due` says when to ask again, and is in the past while some are left.
        """

    async def waiting_traces(self) -> WaitingTraces:
        """What waits for that."""

    async def freeze(self, rules: FreezeRules, limit: int) -> list[MeterEvent]:
        """Turn due windows into meter events: about `limit`, oldest first, and fresh ones as the rules say."""

    async def unsettled(self, after: int, limit: int) -> list[MeterEvent]:
        """Meter events without a definite answer and with an id above `after`, in the order of their ids."""

    async def take_released(self, limit: int) -> list[MeterEvent]:
        """Meter events that were made or released outside of freezing, each told once in the life of a process."""

    async def begin(self, events: Sequence[MeterEvent], now: float) -> None:
        """Write down that an attempt at each begins."""

    async def settle(self, event: MeterEvent, outcome: Outcome, now: float) -> None:
        """Write down what became of an attempt."""

    async def begin_batches(self, batches: Sequence[Sequence[MeterEvent]], now: float) -> list[str]:
        """Write down that calls begin that carry several events each, and which; return their idempotency keys."""

    async def settle_batch(self, settled: Sequence[tuple[MeterEvent, Outcome]], now: float) -> None:
        """Write down what became of all events of one call."""

    async def expire(self, event: MeterEvent, now: float) -> None:
        """Set an uncertain event aside that is too old to be sent again safely."""

    async def directory(self, account: str, fields: Sequence[str]) -> DirectoryState:
        """How far the customer directory of an account is.

        Other fields than these are followed no more, so they are complete no more, whenever they are asked for again.
        """

    async def apply_customers(
        self, account: str, fields: Sequence[str], changes: Sequence[CustomerChange], generation: int
    ) -> None:
        """Take customers into the directory, and reopen the usage that waited for one of them."""

    async def known_customers(
        self, account: str, fields: Sequence[str], ids: Collection[str]
    ) -> Mapping[str, Mapping[str, str]]:
        """What the directory says of these customers: customer -> field -> value."""

    async def begin_listing(self, account: str, fields: Sequence[str], started: float) -> Listing:
        """Begin to list all customers; a listing that was not finished is given up."""

    async def list_page(
        self, account: str, listing: Listing, page: Sequence[CustomerChange], created: int
    ) -> Listing:
        """Take in the customers that follow, the last of which was made at `created`; return where it is then."""

    async def finish_listing(self, account: str, fields: Sequence[str], generation: int, listed_at: float) -> None:
        """Forget the customers that this listing did not see, and call the fields complete.

        Of many customers this is many transactions, so that commits never wait for long. The last one says that the
        listing is complete; what was forgotten before is what a listing does not show.
        """

    async def follow(self, account: str, cursor: float) -> None:
        """Remember up to where changes were applied."""

    async def unfinished(self) -> list[Terms]:
        """The terms of usage that is not in a meter event yet, whichever policies stand in the configuration now."""

    async def places(self, policies: Collection[str]) -> list[Filed]:
        """Where policies of these names have billed, as far as the ledger reaches."""

    def recognise(self, former: Former) -> None:
        """From now on, do not take what its policy has billed elsewhere. Does not wait."""

    async def token_accounts(self) -> frozenset[str]:
        """The accounts for which there ever were ingest tokens, which keep what came with one apart from all else."""

    async def waiting(self, reasons: Sequence[Reason], limit: int) -> list[Waiting]:
        """Distinct usage that is held for one of these reasons."""

    async def reopen_meter(self, account: str, event_name: str) -> None:
        """Reopen the usage that waited for a meter."""

    async def known_meters(self, account: str) -> frozenset[str]:
        """Ids of the account's meters that were fed so far; see `ledger/identity.py`."""

    async def remember_meters(self, account: str, meters: Collection[str]) -> None:
        """From now on the account is known by these, too."""


class Storage(Protocol):
    """What an extension offers that keeps ledgers."""

    def ledger(self, book: str, window: int) -> Ledger:
        """The ledger of one exporter. `window` is the length of its windows in seconds, 1 to 60."""

    @property
    def ingest_tokens(self) -> IngestTokens:
        """The tokens that let companies in."""

    async def note_configuration(self, settings: Mapping[str, object]) -> None:
        """Write into the audit log what decides about money, with what it was before, if it has changed.

        `settings` holds JSON values and no secrets. Called at each start, before usage comes.
        """

    async def record_configuration(self, settings: Mapping[str, object], why: str) -> None:
        """The same for a change while usage comes, which must be on the disk before it is in force.

        Raises:
            Unavailable: it was not written.
        """
