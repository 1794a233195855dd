"""Which of the charges that carry one id count: for each user one, and the earliest."""

from otel_usageflow.model.same_request import Candidate, give_way


def charge(at: int, user: str = "acme", *, billable: bool = True, fixed: bool = False) -> Candidate:
    return Candidate((at, b""), user, billable, fixed)


def test_the_earliest_counts() -> None:
    """Of several charges of one user, the one whose span ended first counts for all."""
    assert give_way({"b": charge(2), "a": charge(1), "c": charge(3)}) == {"b": "a", "c": "a"}


def test_each_user_has_a_charge() -> None:
    """An id that somebody else sends takes nothing away from its first user, nor from the second."""
    assert give_way({"a": charge(1), "b": charge(2, "beta")}) == {}


def test_nobody_gives_way_to_somebody() -> None:
    """A span without a user is one with any that has one, however late; without such, the earliest waits."""
    assert give_way({"proxy": charge(1, "", billable=False), "app": charge(2)}) == {"proxy": "app"}
    assert give_way({"proxy": charge(1, "", billable=False), "app": charge(2, billable=False)}) == {"proxy": "app"}
    assert give_way({"a": charge(2, "", billable=False), "b": charge(1, "", billable=False)}) == {"a": "b"}


def test_what_cannot_be_billed_gives_way() -> None:
    """A bad quantity gives way to a good one of the same user."""
    assert give_way({"a": charge(1, billable=False), "b": charge(2)}) == {"a": "b"}


def test_what_cannot_be_changed_stands() -> None:
    """A charge that was sent counts, whatever comes; and of two that were sent both do."""
    assert give_way({"sent": charge(9, fixed=True), "a": charge(1)}) == {"a": "sent"}
    assert give_way({"sent": charge(9, fixed=True), "other": charge(8, fixed=True), "a": charge(1)}) == {"a": "other"}


def test_charges_of_one_moment_are_told_apart() -> None:
    """Ends that are equal do not make the answer depend on the order in which the charges came."""
    one, two = Candidate((1, b"a"), "acme", True), Candidate((1, b"b"), "acme", True)
    assert give_way({"one": one, "two": two}) == give_way({"two": two, "one": one}) == {"two": "one"}
