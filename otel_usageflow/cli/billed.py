"""What the policies of a configuration bill, and through which exporters, without starting anything."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otel_usageflow.errors import StorageError, UsageError

if TYPE_CHECKING:
    from otel_usageflow.config.model import Config
    from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
    from otel_usageflow.exporters.stripe_meter.needed_meters import Billed
    from otel_usageflow.policy.config import PolicyConfig


@dataclass(frozen=True, slots=True)
class Outlet:
    """One `stripe_meter` exporter, and what goes out through it."""

    exporter: str
    """`type[/name]`."""
    config: "StripeMeterConfig"
    billed: "tuple[Billed, ...]"
    fields: frozenset[tuple[str, str]]
    """(account, metadata field) that users are looked up by."""
    directory: Path | None = None
    """Of the ledger, where that is ours."""

    @property
    def accounts(self) -> list[str]:
        """The accounts that are billed, sorted; empty is the key's own."""
        return sorted({one.account for one in self.billed} or {self.config.account or ""})


def outlets(config: "Config") -> list[Outlet]:
    """The Stripe exporters that pipelines use.

    Raises:
        UsageError: there is none.
    """
    from otel_usageflow.component import Kind
    from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig

    found = []
    for id_ in config.used(Kind.EXPORTER):
        exporter = config.exporters[id_].config
        if isinstance(exporter, StripeMeterConfig):
            directory = _directory(config, exporter)
            accounts = {exporter.account or "", *_of_tokens(exporter, id_, directory)}
            fields = frozenset(
                (account, policy.customer.metadata_field)
                for policy, _ in _policies(config, id_)
                for account in ({policy.account} if policy.account else accounts)
                if policy.customer.metadata_field is not None
            )
            billed = tuple(one for account in sorted(accounts) for one in _billed(config, id_, account))
            found.append(Outlet(id_, exporter, tuple(dict.fromkeys(billed)), fields, directory))
    if not found:
        raise UsageError("no pipeline of this configuration has a stripe_meter exporter, so nothing is billed by it")
    return found


def _of_tokens(exporter: "StripeMeterConfig", id_: str, directory: Path | None) -> set[str]:
    """The accounts in which policies without one bill, too, because there are valid ingest tokens for them."""
    from otel_usageflow.extensions.sqlite_storage.connect.token_desk import TokenDesk
    from otel_usageflow.ledger.ingest_tokens import TokenState

    if directory is None or exporter.account is not None:
        return set()
    book, now = f"{id_} {exporter.mode}", time.time()
    try:
        tokens = TokenDesk(directory).listed()
    except StorageError:  # others tell of it; what is asked about here can be told without
        return set()
    return {one.account for one in tokens if one.book == book and one.state(now) is TokenState.VALID}


def _directory(config: "Config", exporter: "StripeMeterConfig") -> Path | None:
    from otel_usageflow.extensions.sqlite_storage import SqliteStorageConfig

    storage = config.extensions[exporter.sending_queue.storage].config
    return storage.directory if isinstance(storage, SqliteStorageConfig) else None


def _billed(config: "Config", exporter: str, account: str) -> "Iterator[Billed]":
    from otel_usageflow.exporters.stripe_meter.needed_meters import Billed

    for policy, weighed in _policies(config, exporter):
        where = policy.account or account
        ones = policy.quantity == 1 and not weighed
        yield Billed(policy.name, policy.event_name, where, ones, tuple(sorted(policy.payload)))


def _policies(config: "Config", exporter: str) -> "Iterator[tuple[PolicyConfig, bool]]":
    """The policies that bill through an exporter, and whether they bill by weight (`sampling: adjust`).

    Of other processors than `usage_policy` nothing is known.
    """
    from otel_usageflow.processors.usage_policy.config import UsagePolicyConfig

    for id_ in sorted({p.processors[0] for p in config.pipelines.values() if exporter in p.exporters}):
        processor = config.processors[id_].config
        if isinstance(processor, UsagePolicyConfig):
            yield from ((policy, processor.sampling == "adjust") for policy in processor.policies)
