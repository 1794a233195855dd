"""Freezing decides about windows: purely, once, and for the reasons that the design names."""

from decimal import Decimal

import pytest

from otel_usageflow.ledger.charge import DAY
from otel_usageflow.ledger.freeze import (
    DueWindow,
    FiledRecord,
    Formula,
    FreezeRules,
    Lane,
    Plan,
    draft_records,
    plan,
)
from otel_usageflow.model.usage import Quantity, Reason

NOON = 1_700_000_000 - 1_700_000_000 % 60
LANE: Lane = ("", "api_request", "cus_1")


def window(
    start: int = 0,
    total: Quantity = 1,
    *,
    user: str = "acme",
    length: int = 10,
    payload: str = "",
    field: str | None = "account_id",
    last: Quantity = 1,
) -> DueWindow:
    """A window that begins `start` seconds after noon, with one record in its last second but one."""
    at = NOON + start
    last_ns = (at + length - 1) * 10**9
    return DueWindow("", "api_request", field, user, payload, 1, at, length, at, at, 1, total, last_ns, last)


def rules(
    meter: Formula | Reason | None = Formula.SUM,
    *,
    now: float = NOON + 120,
    max_window: int = 60,
    one_by_one: bool = False,
    listed: bool = True,
    busy: bool = False,
) -> FreezeRules:
    """What the exporter knows; without a meter, that it knows nothing of it."""
    meters = {} if meter is None else {("", "api_request"): meter}
    fields = {("", "account_id")} if listed else set()
    return FreezeRules(now, max_window, one_by_one, meters, fields, lambda _lane: busy)


def customers(*ids: str) -> dict[tuple[str, str, str], list[str]]:
    """These customers have the value `acme`."""
    return {("", "account_id", "acme"): list(ids)}


def decided(made: Plan) -> tuple[list[str], list[Reason]]:
    """Values of the drafts, and reasons of what is held."""
    return [draft.value for draft in made.drafts], [reason for _, reason in made.held]


@pytest.mark.parametrize(
    ("known", "facts", "expected"),
    [
        pytest.param(["cus_1"], rules(), (["1"], []), id="billed"),
        pytest.param(["cus_1"], rules(None), ([], []), id="meter-not-known-yet"),
        pytest.param(["cus_1"], rules(Reason.NO_METER), ([], [Reason.NO_METER]), id="no-meter"),
        pytest.param([], rules(), ([], [Reason.NO_CUSTOMER]), id="no-customer"),
        pytest.param(["a", "b"], rules(), ([], [Reason.AMBIGUOUS_CUSTOMER]), id="two-customers"),
        pytest.param([], rules(listed=False), ([], []), id="not-listed-yet"),
        pytest.param(["cus_1"], rules(listed=False), ([], []), id="another-may-not-be-listed-yet"),
        pytest.param(["a", "b"], rules(listed=False), ([], [Reason.AMBIGUOUS_CUSTOMER]), id="two-already"),
        pytest.param(["cus_1"], rules(busy=True), ([], []), id="lane-busy"),
        pytest.param(["cus_1"], rules(now=NOON + 35 * DAY), ([], [Reason.TOO_OLD]), id="too-old"),
        pytest.param(["cus_1"], rules(now=NOON + 35 * DAY - 600), (["1"], []), id="just-in-time"),
    ],
)
def test_what_becomes_of_a_window(
    known: list[str], facts: FreezeRules, expected: tuple[list[str], list[Reason]]
) -> None:
    """Each question has its answer, and what is not known yet leaves the window open."""
    assert decided(plan([window()], customers(*known), facts)) == expected


def test_a_customer_id_needs_no_directory() -> None:
    """Without a metadata field the user is the customer, whatever is listed."""
    (draft,) = plan([window(user="cus_9", field=None)], {}, rules(listed=False)).drafts
    assert draft.lane == ("", "api_request", "cus_9")


@pytest.mark.parametrize(
    ("max_window", "starts", "covered"),
    [
        (60, [0, 10, 50], 3),
        (60, [50, 60], 1),
        (20, [0, 10, 20], 2),
        (10, [0, 10], 1),
        (60, [0, 10, 59], 2),  # a window of 10 s that begins at 59 belongs to the minute, but is too long
    ],
)
def test_windows_merge_within_a_minute(max_window: int, starts: list[int], covered: int) -> None:
    """Windows of one lane become one event up to `max_window`, and never across a minute."""
    windows = [window(start) for start in starts]
    (draft,) = plan(windows, customers("cus_1"), rules(max_window=max_window)).drafts
    assert len(draft.windows) == covered
    assert draft.timestamp == max(w.last_ns for w in draft.windows) // 10**9


def test_another_payload_is_another_event() -> None:
    """Windows with other keys are not merged, and wait for the next turn of their lane."""
    made = plan([window(0, payload='{"m": "a"}'), window(10, payload='{"m": "b"}')], customers("cus_1"), rules())
    assert [draft.payload for draft in made.drafts] == ['{"m": "a"}']


def test_users_of_one_customer_share_an_event() -> None:
    """Two users that lead to one customer are one lane."""
    known = {("", "account_id", user): ["cus_1"] for user in ("acme", "beta")}
    (draft,) = plan([window(0, 2), window(0, 3, user="beta")], known, rules()).drafts
    assert (draft.value, draft.requests) == ("5", 2)


def test_a_long_sum_is_told_in_parts() -> None:
    """A sum over 15 digits is several events, of which only the first covers the windows."""
    long = Decimal("123456789012.123456789")
    drafts = plan([window(0, long)], customers("cus_1"), rules()).drafts
    assert sum(Decimal(draft.value) for draft in drafts) == long
    assert [(draft.part, draft.parts, len(draft.windows)) for draft in drafts] == [(0, 2, 1), (1, 2, 0)]


def test_a_long_last_value_is_held() -> None:
    """A last value cannot be told in parts."""
    made = plan([window(last=Decimal("123456789012.123456789"))], customers("cus_1"), rules(Formula.LAST))
    assert decided(made) == ([], [Reason.BAD_QUANTITY])


def test_last_takes_the_latest() -> None:
    """The value of the window whose last span ended last."""
    (draft,) = plan([window(0, last=5), window(10, last=3)], customers("cus_1"), rules(Formula.LAST)).drafts
    assert draft.value == "3"


def test_a_counting_meter_gets_record_by_record() -> None:
    """The first window of the lane is to be frozen record by record."""
    made = plan([window(0), window(10)], customers("cus_1"), rules(Formula.COUNT))
    assert made.one_by_one == [(LANE, window(0), Formula.COUNT)]


@pytest.mark.parametrize(
    ("formula", "values"), [(Formula.SUM, ["1", "2"]), (Formula.COUNT, ["1", "2"]), (Formula.LAST, ["1", "0", "2"])]
)
def test_records_in_the_order_in_which_they_happened(formula: Formula, values: list[str]) -> None:
    """One event a record; 0 is only told to a meter that keeps the last value."""
    records = [FiledRecord(bytes(32), at, quantity) for at, quantity in ((30, 2), (10, 1), (20, 0))]
    assert [draft.value for draft in draft_records(LANE, window(), records, formula)] == values


@pytest.mark.parametrize(("formula", "events"), [(Formula.SUM, 2), (Formula.COUNT, 1), (Formula.LAST, 1)])
def test_only_sums_are_cut(formula: Formula, events: int) -> None:
    """Parts of a record would be counted, or the smallest part would be the last value."""
    record = FiledRecord(bytes(32), 1, Decimal("123456789012.123456789"))
    assert len(draft_records(LANE, window(), [record], formula)) == events
