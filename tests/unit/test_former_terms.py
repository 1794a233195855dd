"""Where a policy has billed before, and where its requests are looked for."""

from dataclasses import replace

from billing import CHAT

from otel_usageflow.ledger.former import Filed, former

NOW = 1_800_000_000.0
HERE, OTHER, THIRD = (Filed("chat", "", name) for name in ("api_request", "other", "third"))


def test_a_policy_that_always_billed_here_is_not_looked_for() -> None:
    """Neither by itself nor beside others, nor under another metadata field."""
    embed = replace(CHAT, policy="embed", event_name="embeddings")
    known = [HERE, Filed("embed", "", "embeddings"), Filed("gone", "", "other")]
    assert former([CHAT, replace(CHAT, metadata_field="team"), embed], known, NOW).others == {}


def test_former_places_and_the_present_one_know_each_other() -> None:
    """What was judged before the change may be written down after what came again under the new terms."""
    found = former([CHAT], [OTHER, THIRD], NOW).others
    assert found == {HERE: (OTHER, THIRD), OTHER: (HERE, THIRD), THIRD: (HERE, OTHER)}


def test_an_account_is_a_place() -> None:
    """A policy that bills into another account has other charges."""
    moved = replace(CHAT, account="acct_1")
    assert former([moved], [HERE], NOW).others[Filed("chat", "acct_1", "api_request")] == (HERE,)


def test_policies_of_one_name_that_bill_side_by_side_are_no_rivals() -> None:
    """Two processors may each have a policy of that name, and a request is billed under both."""
    both = [CHAT, replace(CHAT, event_name="other")]
    assert former(both, [HERE, OTHER], NOW).others == {}
    assert former(both, [HERE, OTHER, THIRD], NOW).others == {
        HERE: (THIRD,),
        OTHER: (THIRD,),
        THIRD: (HERE, OTHER),
    }


def test_only_requests_around_the_change_are_looked_for() -> None:
    """An hour before it, in which clients send again, and ten minutes after it, for clocks."""
    found = former([CHAT], [OTHER], NOW)
    assert (found.after_ns, found.before_ns) == ((1_800_000_000 - 3_600) * 10**9, (1_800_000_000 + 600) * 10**9)
