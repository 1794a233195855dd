"""`otel-usageflow preview --against`: the same spans under two configurations, and what differs."""

import json
from fractions import Fraction
from itertools import starmap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outside import EXAMPLE, changed, command, export, policy, request, span

from otel_usageflow.policy.preview import CountLine, Preview, UsageLine, UsagePart
from otel_usageflow.policy.preview_difference import compare
from otel_usageflow.policy.quantity import total

SPANS = export(
    span(request(n="0.1")),
    span(request(user="zoe", n=3)),
    span(request(user=None, n=1)),
    span(request(status=500, n=1)),
    span(request("/other")),
)


class Bench:
    """Two configurations and the spans, as files."""

    def __init__(self, directory: Path) -> None:
        self.old, self.new, self.spans = directory / "old.yaml", directory / "new.yaml", directory / "spans.pb"
        self.spans.write_bytes(SPANS)

    def write(self, old: list[Any], new: list[Any]) -> None:
        self.old.write_text(changed(EXAMPLE, processors__usage_policy__policies=old))
        self.new.write_text(changed(EXAMPLE, processors__usage_policy__policies=new))

    def run(self, *more: object) -> Any:
        return command("preview", "--config", self.new, "--against", self.old, "--input", self.spans, *more)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def numbers(before: Any, after: Any, difference: Any) -> dict[str, Any]:
    return {"before": before, "after": after, "difference": difference}


def test_equal_bills_are_one_line_and_status_0(bench: Bench) -> None:
    """Two files that are written differently and bill the same are equal."""
    bench.write([policy()], [policy(endpoint=["POST /chat", "POST /nothing"], quantity="1.0")])
    result = bench.run()
    assert (result.status, result.err) == (0, "")
    assert result.out == "no difference: both bill the same for 5 requests in 5 spans\n"
    told = json.loads(bench.run("--format", "json").out)
    assert told == {
        "equal": True,
        "spans": 5,
        "requests": numbers(5, 5, 0),
        "usage": [],
        "quarantined": [],
        "unbilled": [],
        "unmatched_requests": numbers(1, 1, 0),
    }


def test_a_difference_is_told_for_each_user(bench: Bench) -> None:
    """Status 3, stable keys, exact decimal strings; what did not change is not listed."""
    bench.write(
        [policy()], [policy(quantity={"attribute": "n"}, status="any", endpoint=["POST /chat", "POST /other"])]
    )
    result = bench.run("--format", "json")
    assert (result.status, result.err) == (3, "")
    told = json.loads(result.out)
    line = {"policy": "chat", "event_name": "api_request", "metadata_field": "account_id"}
    line |= {"account": None, "payload": {}}
    assert told == {
        "equal": False,
        "spans": 5,
        "requests": numbers(5, 5, 0),
        "usage": [
            {**line, "user": "acme", "requests": numbers(1, 2, 1), "quantity": numbers("1", "1.1", "0.1")},
            {**line, "user": "zoe", "requests": numbers(1, 1, 0), "quantity": numbers("1", "3", "2")},
        ],
        "quarantined": [{"policy": "chat", "reason": "bad_quantity", "requests": numbers(0, 1, 1)}],
        "unbilled": [{"policy": "chat", "reason": "status", "requests": numbers(1, 0, -1)}],
        "unmatched_requests": numbers(1, 0, -1),
    }
    table = bench.run()
    assert table.status == 3
    for text in ("acme", "1.1", "+0.1", "bad_quantity", "without a policy", "-1"):
        assert text in table.out


@pytest.mark.parametrize(
    "keys",
    [
        {"name": "talk"},
        {"event_name": "other"},
        {"customer": {"metadata_field": "org"}},
        {"customer": {"id": True}},
        {"account": "acct_1"},
    ],
)
def test_where_usage_goes_is_a_difference(keys: dict[str, Any], bench: Bench) -> None:
    """The same sums under another policy, meter, customer field or account are another bill."""
    bench.write([policy()], [policy(**keys)])
    told = json.loads((result := bench.run("--format", "json")).out)
    assert result.status == 3
    assert sorted((line["user"], line["quantity"]["difference"]) for line in told["usage"]) == [
        ("acme", "-1"),
        ("acme", "1"),
        ("zoe", "-1"),
        ("zoe", "1"),
    ]


def test_another_payload_is_another_bill(bench: Bench) -> None:
    """Equal sums whose meter events say something else differ, and each side's payload is told."""
    model = {"model": {"attribute": "n"}}
    bench.write([policy(payload=model)], [policy(payload={"size": {"attribute": "n"}})])
    result = bench.run("--format", "json")
    assert result.status == 3
    told = [
        (line["user"], line["payload"], line["requests"]["difference"]) for line in json.loads(result.out)["usage"]
    ]
    assert told == [
        ("acme", {"model": "0.1"}, -1),
        ("acme", {"size": "0.1"}, 1),
        ("zoe", {"model": "3"}, -1),
        ("zoe", {"size": "3"}, 1),
    ]
    assert "size: 0.1" in bench.run().out
    bench.write([policy(payload=model)], [policy(payload=model, endpoint=["POST /chat", "POST /nothing"])])
    assert bench.run().status == 0
    plain = command("preview", "--config", bench.new, "--input", bench.spans, "--format", "json")
    assert [sorted(line) for line in json.loads(plain.out)["usage"]] == [
        ["event_name", "metadata_field", "policy", "quantity", "requests", "user"]
    ] * 2


def test_errors_name_their_file(bench: Bench) -> None:
    """What is wrong with either configuration is told at once, each with its file; status 1, not 3."""
    bench.write([policy(statsu="2xx")], [policy(user={"headr": "x"})])
    result = bench.run()
    assert (result.status, result.out) == (1, "")
    lines = result.err.splitlines()
    assert any(line.startswith(f"{bench.old}: processors::usage_policy::") and "statsu" in line for line in lines)
    assert any(line.startswith(f"{bench.new}: processors::usage_policy::") and "headr" in line for line in lines)


def test_a_missing_file_is_named_once(bench: Bench) -> None:
    """An error that names its file already is not given the name again."""
    bench.write([policy()], [policy()])
    bench.old.unlink()
    result = bench.run()
    assert (result.status, result.err) == (1, f"{bench.old}: there is no such file\n")


def test_set_belongs_to_the_configuration_alone(bench: Bench) -> None:
    """`--set` tries out a change against the same file."""
    bench.write([policy()], [policy()])
    result = bench.run("--set", "processors::usage_policy::placeholders=[zoe]", "--format", "json")
    assert result.status == 3
    assert [line["user"] for line in json.loads(result.out)["usage"]] == ["zoe"]


def test_standard_input_is_read_once(bench: Bench) -> None:
    """Both bill what came by standard input."""
    bench.write([policy()], [policy(status="any")])
    result = command("preview", "--config", bench.new, "--against", bench.old, "--input", "-", stdin=SPANS)
    assert (result.status, "acme" in result.out) == (3, True)


_counts = st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), st.integers(1, 9))
_amounts = st.one_of(st.integers(0, 10**17), st.decimals(0, 10**9, allow_nan=False, places=18))
_payloads = st.sampled_from([(), (("model", "m"),), (("model", "n"),)])
_users = st.dictionaries(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from("uv"), st.sampled_from([None, "f"]), st.sampled_from([None, "a"])
    ),
    st.lists(st.tuples(_payloads, st.integers(1, 9), _amounts), min_size=1, unique_by=lambda part: part[0]),
)
_bills = st.builds(
    lambda usage, quarantined, unbilled, unmatched: Preview(
        usage=[
            UsageLine(
                p,
                "e",
                u,
                f,
                sum(n for _, n, _ in parts),
                total(q for *_, q in parts),
                a,
                tuple(starmap(UsagePart, parts)),
            )
            for (p, u, f, a), parts in usage.items()
        ],
        quarantined=[CountLine(*key, number) for key, number in quarantined.items()],
        unbilled=[CountLine(*key, number) for key, number in unbilled.items()],
        unmatched_requests=unmatched,
    ),
    _users,
    _counts,
    _counts,
    st.integers(0, 3),
)


@given(before=_bills, after=_bills)
def test_before_plus_difference_is_after(before: Preview, after: Preview) -> None:
    """The difference is exact, complete, opposite the other way round, and nothing of a bill with itself."""
    found, back = compare(before, after), compare(after, before)
    sums: dict[Any, Any] = {}
    for line in before.usage:
        for part in line.parts:
            sums[line.policy, line.user, line.metadata_field, line.account, part.payload] = Fraction(part.quantity)
    for change in found.usage:
        key = (change.policy, change.user, change.metadata_field, change.account, change.payload)
        assert sums.get(key, 0) == change.before.quantity
        sums[key] = sums.get(key, 0) + Fraction(change.quantity)
    for line in after.usage:
        for part in line.parts:
            assert (
                sums.pop((line.policy, line.user, line.metadata_field, line.account, part.payload)) == part.quantity
            )
    assert not any(sums.values())
    assert [-Fraction(change.quantity) for change in back.usage] == [
        Fraction(change.quantity) for change in found.usage
    ]
    assert found.equal == back.equal
    assert compare(before, before).equal
