"""Several policies: which ones take a request, and in which order they are asked."""

from span_builder import NOW, engine, http, judge, only, payload, policy, span

ACME = {"http.request.header.x-account-id": "acme"}


def names(batch: object) -> list[str]:
    return [record.terms.policy for record in batch.records]  # type: ignore[attr-defined]


def test_each_event_name_bills_the_request() -> None:
    """One request feeds several meters."""
    batch = judge(http() | ACME, policy(), policy(name="b", event_name="other"))
    assert names(batch) == ["chat", "b"]
    assert batch.requests == 1


def test_the_first_of_one_event_name_wins() -> None:
    """Two policies of one event name bill once, by their order and not by how exact they are."""
    wide, narrow = policy(name="wide", endpoint="* /**"), policy(name="narrow")
    assert names(judge(http() | ACME, wide, narrow)) == ["wide"]
    assert names(judge(http() | ACME, narrow, wide)) == ["narrow"]


def test_the_first_wins_even_if_it_does_not_bill() -> None:
    """Once its endpoint and match fit, a policy keeps the request: its status may say no, its user may be missing."""
    second = policy(name="second", status="any", user={"metadata": "x"})
    refused = judge(http(status=500) | {"x": "acme"}, policy(), second)
    assert (names(refused), refused.unbilled, refused.unmatched) == ([], {("chat", "status"): 1}, 0)
    without = only(judge(http() | {"x": "acme"}, policy(), second))
    assert (without.terms.policy, without.reason) == ("chat", "no_user")


def test_match_lets_the_next_policy_have_it() -> None:
    """A policy whose match does not hold has not taken the request."""
    other = policy(name="other", match={"service": "elsewhere"})
    assert names(judge(http() | ACME, other, policy())) == ["chat"]
    assert judge(http() | ACME, other).unmatched == 1


def test_many_policies_of_one_endpoint_are_told_apart() -> None:
    """A hundred policies that differ only in what they match: the right ones are asked, in order."""
    rules = [
        policy(name=f"p{number}", event_name=f"e{number}", match={"attributes": {"plan": [f"plan{number}", "all"]}})
        for number in range(100)
    ]
    rules.insert(50, policy(name="everyone", event_name="everyone"))
    rules.append(policy(name="shop", event_name="shop", match={"service": "shop"}))
    judged = engine(*rules)

    def taken(plan: object, service: str) -> list[str]:
        return names(judged.evaluate(payload(span(http() | ACME | {"plan": plan}), service=service), NOW))

    assert taken("plan7", "shop") == ["p7", "everyone", "shop"]
    assert taken("plan77", "store") == ["everyone", "p77"]
    assert taken(None, "shop") == ["everyone", "shop"]
    assert len(taken("all", "shop")) == 102


def test_a_span_that_ends_in_the_future_is_stamped_on_receipt() -> None:
    """The moment that is billed is the span's end, or the time of receipt if the end lies ahead of it."""
    for end, at in ((NOW - 5, NOW - 5), (NOW, NOW), (NOW + 5, NOW), (2**64 - 1, NOW), (0, 0)):
        record = only(engine(policy()).evaluate(payload(span(http() | ACME, end=end)), NOW))
        assert (record.ended_ns, record.at_ns) == (min(end, 2**63 - 1), at)
