"""Who sends spans, where an ingest token says so."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Decides under which account the spans of a call are billed; nothing in the spans can decide otherwise."""

    account: str
    """The connected account; empty for the exporter's own."""
    book: str
    """The only book that may take them: an exporter's id and its mode, as `stripe_meter test`."""
    token: str = ""
    """The id of the token, for the log."""
