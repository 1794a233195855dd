"""For whom a command may make calls: what the service has written down about connected accounts.

A command renews no token: only the service does, because each renewal replaces the one before.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from otel_usageflow.errors import StorageError

if TYPE_CHECKING:
    from otel_usageflow.exporters.stripe_meter.access import Access
    from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig


def connected_access(exporter: str, config: "StripeMeterConfig", directory: Path | None) -> "Access | None":
    """The access of an exporter with its ledger in `directory`; None without a section `connect`.

    Raises:
        StartError: the encryption key cannot be used.
    """
    from otel_usageflow.exporters.stripe_meter.access import AppAccess, OAuthAccess
    from otel_usageflow.exporters.stripe_meter.connect_config import key_ring
    from otel_usageflow.extensions.sqlite_storage.connect.desk import ConnectionDesk

    if config.connect is None or directory is None:
        return None
    try:
        connections, _ = ConnectionDesk(directory, f"{exporter} {config.mode}").all()
    except StorageError:  # no ledger yet, so nothing is connected; whoever needs the ledger says so itself
        connections = {}
    sealed = {name: one.sealed for name, one in connections.items() if one.usable and one.sealed}
    tokens = {}
    if sealed:
        keys = key_ring(config.connect, f"exporters::{exporter}::connect")
        opened = {name: keys.open(content, name) for name, content in sealed.items()}
        tokens = {name: pair.access for name, pair in opened.items() if pair is not None}
    access = AppAccess() if config.connect.kind == "app" else OAuthAccess()
    access.learn(connections, tokens)
    return access
