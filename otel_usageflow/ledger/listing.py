"""How far a listing of all customers has come: what the ledger keeps, so that a restart goes on where it was."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listing:
    """A listing of one account's customers, newest first. Times are unix seconds."""

    generation: int
    """Marks the customers that it, or what came meanwhile, has shown; greater than that of any listing before."""
    started: float
    fields: tuple[str, ...]
    """The metadata fields that it knows customers by."""
    after: str = ""
    """The last customer of the last page, empty before the first."""
    created: int = 0
    """When that one was made, by Stripe's clock."""
    listed: int = 0
    """Customers that it has shown."""
