"""Everything at once, for the memory: 100,000 active users, customers, and as many meter events to be sent."""

from pathlib import Path

from growth import backlog, directory
from growth.curve import Curve

_USERS = 100_000


def prepare(place: Path, size: int) -> None:
    """The backlog first, as that makes the file."""
    backlog.prepare(place, size)
    directory.prepare(place, size)


# 70 of 100 spans of the load are billable, and each of them is of another user until all had their turn.
CURVE = Curve(
    "together",
    (10_000, 1_000_000),
    prepare=prepare,
    users=lambda _size: _USERS,
    customers=lambda size: size,
    pool=160_000,
    even=True,
)
