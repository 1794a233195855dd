"""Which events go together in one call, and which of them a report about the call means."""

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.delivery.batches import Plan, goes_together, plans
from otel_usageflow.ledger.batch import Member, meant
from otel_usageflow.ledger.identifier import batch_key, batch_of, of_idempotency_key
from otel_usageflow.model.meter_event import MeterEvent


def event(number: int, account: str = "", *, uncertain: bool = False, batch: int = 0) -> MeterEvent:
    """The next event of lane `number`."""
    name = f"uf_{number}"
    facts = (number, account, "api_request", f"cus_{number}", "1", 1_700_000_000, name, name)
    return MeterEvent(*facts, uncertain=uncertain, batch=batch)


HEADS = st.lists(
    st.tuples(st.sampled_from(["", "acct_1", "acct_2"]), st.booleans(), st.sampled_from([0, 0, 7])), max_size=300
).map(lambda facts: [event(n, a, uncertain=u, batch=b) for n, (a, u, b) in enumerate(facts)])


@given(HEADS, st.sampled_from([1, 2, 100]), st.sets(st.integers(0, 300), max_size=20))
def test_each_event_is_in_exactly_one_call(heads: list[MeterEvent], most: int, alone: set[int]) -> None:
    """Calls are of one account, of distinct lanes, of one way, no larger than allowed, and in the order of lanes."""
    found = plans(heads, most, lambda one: one.event_id in alone)
    assert Counter(one.event_id for call in found for one in call.events) == Counter(one.event_id for one in heads)
    placed = defaultdict(list)
    for call in found:
        assert len({one.account for one in call.events}) == 1
        assert len({one.lane for one in call.events}) == len(call.events) <= most
        assert {goes_together(one, most) for one in call.events} == {call.together}
        assert len(call.events) == 1 or (call.together and not any(one.event_id in alone for one in call.events))
        if call.together and len(call.events) > 1:
            placed[call.account].extend(one.event_id for one in call.events)
    assert all(ids == sorted(ids) for ids in placed.values())


@given(HEADS)
def test_calls_are_as_few_as_can_be(heads: list[MeterEvent]) -> None:
    """All calls of an account but the last are full."""
    calls: dict[str, list[Plan]] = defaultdict(list)
    for call in plans(heads, 10, lambda _event: False):
        if call.together:
            calls[call.account].append(call)
    assert all(len(call.events) == 10 for of in calls.values() for call in of[:-1])


def test_what_has_no_answer_stays_on_its_way() -> None:
    """Whatever is configured now, an uncertain event goes once more by the way it went; a certain one does not."""
    assert not goes_together(event(1, uncertain=True), 100)
    assert goes_together(event(1, uncertain=True, batch=3), 1)
    assert goes_together(event(1, batch=0), 100)
    assert not goes_together(event(1, batch=3), 1)


def test_a_begun_call_carries_its_batch() -> None:
    """Events know the batch in which they went, and an attempt of each is counted."""
    key = batch_key(26, "0123456789abcdef")
    begun = Plan((event(1), event(2)), together=True).begun(5.0, key)
    assert [(one.batch, one.attempts, one.first_attempt_at) for one in begun.events] == [(26, 1, 5.0)] * 2
    assert begun.key == "uf_b1a_0123456789abcdef"
    (alone,) = Plan((event(3, batch=4),), together=False).begun(5.0, "").events
    assert (alone.batch, alone.attempts, alone.first_attempt_at) == (0, 1, 5.0)


def test_keys_of_batches_are_told_from_others() -> None:
    """The key of a batch names its batch; identifiers, keys after a stored failure and other texts do not."""
    assert batch_of(batch_key(26, "0123456789abcdef")) == 26
    assert batch_of("uf_s1a_" + "0" * 40) is None
    assert batch_of("uf_b1a_0123") is None
    assert batch_of("x uf_b1a_0123456789abcdef") is None
    assert batch_of(of_idempotency_key("uf_s1a_" + "0" * 40 + "_k2")) is None


MEMBERS = (Member(1, "chat", "cus_A"), Member(2, "chat", "cus_B"), Member(3, "tokens", "cus_A"))


def test_a_batch_of_one_is_named_by_its_key() -> None:
    """Whatever the message says, there is only one event that it can mean."""
    found = meant(MEMBERS[:1], "chat", ["something is wrong"])
    assert (found.named, found.suspects, found.unnamed) == ({1: "something is wrong"}, (), 0)


def test_the_customer_and_the_meter_name_an_event() -> None:
    """A customer alone is in a batch under several event names; with the report's meter it is one event."""
    message = "No such customer: 'cus_A'"
    assert meant(MEMBERS, "chat", [message]).named == {1: message}
    found = meant(MEMBERS, "", [message])
    assert (found.named, found.suspects, found.unnamed) == ({}, (1, 2, 3), 1)


def test_a_part_of_a_customer_id_names_nobody() -> None:
    """`cus_AB` is not `cus_A`: words are compared whole."""
    found = meant(MEMBERS, "chat", ["No such customer: 'cus_AB'"])
    assert (found.named, found.suspects, found.unnamed) == ({}, (1, 2), 1)


def test_a_report_without_a_meter_is_about_the_name_that_it_tells() -> None:
    """`no_meter_found` has no meter, but its message tells the event name."""
    message = "No meter was found matching event_name tokens."
    assert meant(MEMBERS, "", [message]).named == {3: message}


def test_other_meters_are_not_suspected() -> None:
    """The report's meter leaves those events that were sent to it."""
    found = meant(MEMBERS, "chat", ["The value must be a number"])
    assert (found.named, found.suspects, found.unnamed) == ({}, (1, 2), 1)


MESSAGES = st.lists(
    st.sampled_from(["", "wrong", "No such customer: 'cus_A'", "event_name tokens", "cus_B is deleted"]), max_size=5
)


@given(st.lists(st.sampled_from(MEMBERS), unique=True), st.sampled_from(["", "chat", "tokens"]), MESSAGES)
def test_nobody_else_is_meant(members: list[Member], event_name: str, messages: list[str]) -> None:
    """Who is named or suspected is a member under the report's meter, nobody is both, and errors are not made up."""
    found = meant(members, event_name, messages)
    fitting = {one.event_id for one in members if not event_name or one.event_name == event_name}
    assert found.named.keys() <= fitting
    assert set(found.suspects) <= fitting - found.named.keys()
    assert found.unnamed == 0 or found.unnamed < len(found.suspects)
    assert len(found.named) + found.unnamed <= len(messages)
