"""Freezing conserves: whatever windows there are, each ends in one place, and no amount changes on the way."""

from collections import Counter
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_usageflow.ledger.amount import add, parts
from otel_usageflow.ledger.charge import MINUTE
from otel_usageflow.ledger.freeze import DueWindow, Formula, FreezeRules, plan
from otel_usageflow.model.usage import Quantity, Reason

NOON = 1_700_000_000 - 1_700_000_000 % 60
USERS = ["acme", "beta", "twin", "nobody", "same"]
CUSTOMERS = {
    ("", "account_id", user): ids
    for user, ids in {"acme": ["cus_1"], "same": ["cus_1"], "beta": ["cus_2"], "twin": ["a", "b"]}.items()
}
AMOUNTS = st.one_of(
    st.integers(0, 10**18), st.decimals(0, 10**6, places=9).map(lambda d: Decimal(d)), st.sampled_from([0, 1])
)


@st.composite
def due(draw: st.DrawFn) -> list[DueWindow]:
    """Windows as the ledger hands them over: oldest first, each place once."""
    length = draw(st.sampled_from([1, 7, 10, 60]))
    places = draw(st.lists(st.tuples(st.integers(0, 180), st.integers(0, 4)), max_size=12, unique=True))
    made = {}
    for offset, user in places:
        start = NOON + offset - (offset % MINUTE) % length
        total = draw(AMOUNTS)
        at = draw(st.integers(start, min(start + length, start - start % MINUTE + MINUTE) - 1))
        event = draw(st.sampled_from(["sum", "last", "count", "gone", "unknown"]))
        payload = draw(st.sampled_from(["", '{"m": "x"}']))
        made[start, user] = DueWindow(
            "", event, "account_id", USERS[user], payload, user, start, length, 1, 1, 1, total, at * 10**9, total
        )
    return [made[place] for place in sorted(made)]


METERS: dict[tuple[str, str], Formula | Reason] = {
    ("", "sum"): Formula.SUM,
    ("", "last"): Formula.LAST,
    ("", "count"): Formula.COUNT,
    ("", "gone"): Reason.NO_METER,
}


@settings(deadline=None)
@given(due(), st.sampled_from([1, 10, 30, 60]), st.booleans(), st.booleans(), st.booleans())
def test_every_window_ends_in_one_place(
    windows: list[DueWindow], max_window: int, one_by_one: bool, listed: bool, busy: bool
) -> None:
    """In a draft, done with 0, to be frozen by record, held, or still open; never in two, and sums are preserved."""
    fields = {("", "account_id")} if listed else set()
    rules = FreezeRules(NOON + 300, max_window, one_by_one, METERS, fields, lambda lane: busy and lane[2] == "cus_1")
    made = plan(windows, CUSTOMERS, rules)
    assert made == plan(windows, CUSTOMERS, rules)

    places = Counter(
        [
            *(window for draft in made.drafts for window in draft.windows),
            *made.zero,
            *(window for _, window, _ in made.one_by_one),
            *(window for window, _ in made.held),
        ]
    )
    assert set(places) <= set(windows)
    assert all(times == 1 for times in places.values())

    lanes = Counter(draft.lane for draft in made.drafts if draft.part == 0)
    lanes.update(lane for lane, _, _ in made.one_by_one)
    assert all(times == 1 for times in lanes.values())
    if busy:
        assert all(lane[2] != "cus_1" for lane in lanes)

    for lane in lanes:
        drafts = [draft for draft in made.drafts if draft.lane == lane]
        covered = [window for draft in drafts for window in draft.windows]
        if not covered:
            continue
        assert len({window.start // MINUTE for window in covered}) == 1
        assert len({window.payload for window in covered}) == 1
        assert {draft.timestamp // MINUTE for draft in drafts} == {covered[0].start // MINUTE}
        assert len(drafts) == drafts[0].parts
        if lane[1] == "sum":
            expected: Quantity = 0
            for window in covered:
                expected = add(expected, window.total)
            assert sum(Decimal(draft.value) for draft in drafts) == expected


@given(AMOUNTS, st.lists(AMOUNTS, max_size=20))
def test_parts_add_up(first: Quantity, others: list[Quantity]) -> None:
    """However long a sum has become, its parts are short and say the same."""
    total = first
    for other in others:
        total = add(total, other)
    pieces = parts(total)
    back: Quantity = 0
    for piece in pieces:
        back = add(back, piece)
        assert len(str(Decimal(piece).normalize().as_tuple().digits).split(",")) <= 16
    assert back == total
