"""Filters of quarantine as SQL: for each of the three places where it lies, one WHERE clause.

The clauses name the tables as their readers do: `q` quarantine, `h` held_windows, `e` meter_events, `s` series,
`m` meters, `a` accounts, `o` origins.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from otel_usageflow.extensions.sqlite_storage.doubt.verdicts import event_named
from otel_usageflow.extensions.sqlite_storage.reading import trace_index
from otel_usageflow.ledger.charge import MINUTE, window_start
from otel_usageflow.ledger.quarantine import Filters
from otel_usageflow.ledger.states import EventState

NAMES = (
    "JOIN series s USING (series_id) JOIN meters m USING (meter_id) JOIN accounts a ON a.account_id = m.account_id"
)

# What an event covers lies with the first event of its amount.
_COVERED = "windows w JOIN series s USING (series_id) WHERE w.event_id = e.event_id - e.part"
_RECORD = "records r JOIN series s USING (series_id) JOIN origins o USING (origin_id) WHERE r.key = e.record_key"
_SEVERAL = "(SELECT count(*) FROM series_policies p WHERE p.series_id = {series}) > 1"


@dataclass(frozen=True, slots=True)
class Clause:
    """A condition, its values, and an expression that is true for entries of which everything is meant."""

    where: str
    values: dict[str, object]
    whole: str = "1"


def requests(connection: sqlite3.Connection, filters: Filters) -> Clause:
    """For single requests."""
    made = _Parts(filters)
    made.add("q.resolved_at IS NULL")
    made.reasons("q.reason")
    made.names("s.user", "o.policy")
    made.times("q.at_ns / 1000000000", "q.quarantined_at")
    if filters.identifier is not None:
        made.add("0")
    if filters.trace_id is not None:
        keys = ", ".join(f"x'{key.hex()}'" for key in trace_index.find(connection, filters.trace_id))
        made.add(f"q.key IN ({keys})")
    return made.clause()


def windows(connection: sqlite3.Connection, filters: Filters) -> Clause:
    """For windows that are held."""
    made = _Parts(filters)
    made.reasons("h.reason")
    made.names("s.user", None)
    made.times("h.start", "h.held_at")
    if filters.policy is not None:
        made.add(
            "h.series_id IN (SELECT series_id FROM series_policies WHERE policy = :policy)", policy=filters.policy
        )
        made.whole(f"NOT {_SEVERAL.format(series='h.series_id')}")
    if filters.identifier is not None:
        made.add("0")
    if filters.trace_id is not None:
        held = _places(connection, filters.trace_id, "held_windows")
        which = "h.length = {} AND h.start = {} AND h.series_id = {} AND h.first_seq = {}"
        made.add("(" + (" OR ".join(which.format(*place) for place, *_ in held) or "0") + ")")
        made.whole("(" + (" OR ".join(which.format(*p) for p, told, mine in held if told == mine) or "0") + ")")
    return made.clause()


def events(connection: sqlite3.Connection, filters: Filters) -> Clause:
    """For meter events that were refused."""
    made = _Parts(filters)
    # The second condition is that of the index in the order of events; without it another, scattered one is taken.
    made.add(f"e.state = {int(EventState.REFUSED)} AND e.state IN (3, 4, 6, 7)")
    made.reasons("e.reason")
    if filters.event_name is not None:
        made.add("e.event_name = :event_name", event_name=filters.event_name)
    if filters.account is not None:
        made.add("a.account = :account", account=filters.account)
    if filters.mode is not None:
        made.add("a.book LIKE '% ' || :mode", mode=filters.mode)
    if filters.customer is not None:
        made.add("e.customer = :customer", customer=filters.customer)
    made.times("e.timestamp", "e.settled_at")
    if filters.user is not None:
        mine = "(EXISTS (SELECT 1 FROM {} AND {}) OR EXISTS (SELECT 1 FROM {} AND {}))"
        made.add(mine.format(_COVERED, "s.user = :user", _RECORD, "s.user = :user"), user=filters.user)
        made.whole(f"NOT EXISTS (SELECT 1 FROM {_COVERED} AND s.user != :user)")
    if filters.policy is not None:
        of_series = "EXISTS (SELECT 1 FROM series_policies p WHERE p.series_id = w.series_id AND p.policy {} :policy)"
        covered = f"EXISTS (SELECT 1 FROM {_COVERED} AND {{}})"
        made.add(
            f"({covered.format(of_series.format('='))} OR EXISTS (SELECT 1 FROM {_RECORD} AND o.policy = :policy))",
            policy=filters.policy,
        )
        made.whole("NOT " + covered.format(of_series.format("!=")))
    if filters.identifier is not None:
        made.add("e.event_id = :event", event=event_named(connection, filters.identifier))
    if filters.trace_id is not None:
        covering = _places(connection, filters.trace_id, "windows", "AND event_id > 0")
        first = "e.event_id - e.part"
        own = "coalesce(substr(e.record_key, 5, 16) = :trace, 0)"
        among = ", ".join(str(_event_at(connection, place)) for place, *_ in covering)
        made.add(f"({own} OR {first} IN ({among}))", trace=filters.trace_id)
        made.whole(f"({own} OR (SELECT sum(requests) FROM windows w WHERE w.event_id = {first}) = 1)")
    return made.clause()


class _Parts:
    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._where: list[str] = []
        self._whole: list[str] = []
        self._values: dict[str, object] = {}

    def add(self, condition: str, **values: object) -> None:
        self._where.append(condition)
        self._values |= values

    def whole(self, condition: str) -> None:
        self._whole.append(condition)

    def reasons(self, column: str) -> None:
        if self._filters.reasons:
            marks = ", ".join(f"'{reason}'" for reason in self._filters.reasons)  # words of ours
            self.add(f"{column} IN ({marks})")

    def names(self, user: str, policy: str | None) -> None:
        """The filters that are told by a series."""
        filters = self._filters
        if filters.user is not None:
            self.add(f"{user} = :user", user=filters.user)
        if filters.policy is not None and policy is not None:
            self.add(f"{policy} = :policy", policy=filters.policy)
        if filters.event_name is not None:
            self.add("m.event_name = :event_name", event_name=filters.event_name)
        if filters.account is not None:
            self.add("a.account = :account", account=filters.account)
        if filters.mode is not None:
            self.add("a.book LIKE '% ' || :mode", mode=filters.mode)
        if filters.customer is not None:  # without a metadata field the user is the customer
            self.add(f"s.metadata_field = '' AND {user} = :customer", customer=filters.customer)

    def times(self, moment: str, aside: str) -> None:
        filters = self._filters
        if filters.since is not None:
            self.add(f"{moment} >= :since", since=int(filters.since))
        if filters.until is not None:
            self.add(f"{moment} < :until", until=int(filters.until))
        if filters.aside_until is not None:
            self.add(f"{aside} <= :aside_until", aside_until=filters.aside_until)

    def clause(self) -> Clause:
        return Clause(" AND ".join(self._where) or "1", self._values, " AND ".join(self._whole) or "1")


_Place = tuple[int, int, int, int]


def _places(
    connection: sqlite3.Connection, trace_id: bytes, table: str, more: str = ""
) -> list[tuple[_Place, int, int]]:
    """The windows that hold requests of a trace: place, requests in it, and how many of them are of the trace."""
    found: dict[_Place, tuple[int, int]] = {}
    for series_id, at_ns, seq in _records(connection, trace_id):
        for length in range(1, MINUTE + 1):
            row = connection.execute(
                f"SELECT first_seq, requests FROM {table} WHERE length = ? AND start = ? AND series_id = ? "
                f"AND ? BETWEEN first_seq AND last_seq {more}",
                (length, window_start(at_ns, length), series_id, seq),
            ).fetchone()
            if row is not None:
                place: _Place = (length, window_start(at_ns, length), series_id, row[0])
                found[place] = (row[1], found.get(place, (0, 0))[1] + 1)
    return [(place, told, mine) for place, (told, mine) in found.items()]


def _records(connection: sqlite3.Connection, trace_id: bytes) -> Iterable[tuple[int, int, int]]:
    query = "SELECT series_id, at_ns, seq FROM records WHERE key = ? AND quantity IS NOT NULL"
    for key in trace_index.find(connection, trace_id):
        yield from connection.execute(query, (key,)).fetchall()


def _event_at(connection: sqlite3.Connection, place: _Place) -> int:
    (event_id,) = connection.execute(
        "SELECT event_id FROM windows WHERE length = ? AND start = ? AND series_id = ? AND first_seq = ?", place
    ).fetchone()
    return int(event_id)
