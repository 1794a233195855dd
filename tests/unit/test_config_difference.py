"""What is different between two configurations: what is taken up, what needs a restart, what stands in the way."""

from typing import Any

import pytest
from outside import EXAMPLE, changed, policy

from otel_usageflow.components import registry
from otel_usageflow.config.check import check
from otel_usageflow.config.expand import expand
from otel_usageflow.config.model import Config
from otel_usageflow.config.yaml_reader import read_yaml
from otel_usageflow.service.billing_settings import billing_settings
from otel_usageflow.service.difference import Difference, difference, taking_over

REGISTRY = registry()
CHAT = policy()
EMBED = policy(name="embed", endpoint="POST /embed", event_name="embeddings")


def config(*policies: dict[str, Any], text: str = EXAMPLE, key: str = "sk_test_one", **sections: Any) -> Config:
    """The contract's configuration with these policies; `a__b` is the key `b` below `a`."""
    if policies:
        sections["processors__usage_policy__policies"] = list(policies)
    return check(expand(read_yaml(changed(text, **sections)), {"STRIPE_API_KEY": key}), REGISTRY)


def test_nothing() -> None:
    """Two readings of one file are the same, whatever stands in comments, and however a value is spelt."""
    assert difference(config(CHAT), config(CHAT)) == Difference()
    default = config({**CHAT, "status": ["2xx"], "quantity": 1, "match": {}})
    assert difference(config(CHAT), default) == Difference()
    window = {"exporters__stripe_meter__aggregation": {"window": "10000ms"}}
    assert difference(config(CHAT), config(CHAT, **window)) == Difference()


def test_policies_are_told_by_name() -> None:
    """Added, removed and changed ones; those that only moved up because of that are not named."""
    other = policy(name="other", endpoint="GET /other", event_name="others")
    found = difference(config(other, CHAT), config({**CHAT, "status": "any"}, EMBED))
    assert found == Difference(("usage_policy",), ("embed",), ("other",), ("chat",))


def test_order_decides_and_is_told() -> None:
    """The same policies in another order are another configuration."""
    found = difference(config(CHAT, EMBED), config(EMBED, CHAT))
    assert found == Difference(("usage_policy",), settings=("processors::usage_policy::policies (their order)",))


@pytest.mark.parametrize(
    ("key", "value"), [("placeholders", ["anonymous"]), ("exclude_scopes", ["io.opentelemetry.asgi"])]
)
def test_other_settings_of_a_processor(key: str, value: list[str]) -> None:
    """They are taken up, and told by their path."""
    found = difference(config(CHAT), config(CHAT, **{f"processors__usage_policy__{key}": value}))
    assert found == Difference(("usage_policy",), settings=(f"processors::usage_policy::{key}",))


@pytest.mark.parametrize(
    ("section", "value", "path"),
    [
        ("receivers__otlp__protocols__http", {"endpoint": "127.0.0.1:5318"}, None),
        ("exporters__stripe_meter__aggregation", {"window": "5s"}, "exporters::stripe_meter::aggregation"),
        ("exporters__stripe_meter__account", "acct_1", None),
        ("extensions__sqlite_storage__directory", "elsewhere", None),
        ("service__telemetry", {"logs": {"level": "debug"}}, "service::telemetry"),
        ("service__extensions", ["sqlite_storage"], None),
        ("service__reload", {"watch": False}, "service::reload"),
        ("service__pipelines__traces__exporters", ["debug"], None),
    ],
)
def test_the_rest_needs_a_restart(section: str, value: Any, path: str | None) -> None:
    """It is named by its path, and does not keep policies from being taken up."""
    text = changed(EXAMPLE, exporters__debug={})
    new = config(CHAT, EMBED, text=text, **{section: value})
    found = difference(config(CHAT, text=text), new)
    expected = path or section.replace("__", "::")
    assert [one for one in found.needs_restart if not one.startswith(expected)] == []
    assert found.needs_restart
    assert (found.added, found.obstacles) == (("embed",), ())


def test_no_value_is_told() -> None:
    """A secret that changed is a path."""
    found = difference(config(CHAT, key="sk_test_one"), config(CHAT, key="sk_test_two"))
    assert found == Difference(needs_restart=("exporters::stripe_meter::api_key",))


def test_what_does_not_run_is_no_difference() -> None:
    """Components that no pipeline uses may come, change and go."""
    unused = config(CHAT, **{"processors__usage_policy/unused": {"policies": [EMBED]}, "exporters__debug": {}})
    assert difference(config(CHAT), unused) == Difference()
    assert difference(unused, config(CHAT)) == Difference()


def two(first: str = "usage_policy", second: str = "usage_policy/b", **sections: Any) -> Config:
    """Two pipelines with a processor each."""
    pipelines = {
        name: {"receivers": ["otlp"], "processors": [processor], "exporters": ["stripe_meter"]}
        for name, processor in (("traces", first), ("traces/b", second))
    }
    return config(
        CHAT,
        **{"processors__usage_policy/b": {"policies": [EMBED]}, "service__pipelines": pipelines, **sections},
    )


def test_of_two_processors_the_names_say_which() -> None:
    """Policies of one name may stand in both."""
    new = two(**{"processors__usage_policy/b": {"policies": [EMBED, CHAT]}})
    assert difference(two(), new) == Difference(("usage_policy/b",), ("usage_policy/b: chat",))


def test_a_processor_that_does_not_run_stands_in_the_way() -> None:
    """Its policies would wait for a restart while others are taken up: so none are."""
    renamed = changed(
        EXAMPLE,
        processors={"usage_policy/v2": {"policies": [CHAT]}},
        service__pipelines__traces__processors=["usage_policy/v2"],
    )
    (problem,) = difference(config(), config(text=renamed)).obstacles
    assert problem.path == "service::pipelines::traces::processors"
    assert problem.message == "usage_policy/v2 does not run; a restart takes up this configuration"


def test_a_pipeline_with_another_processor_stands_in_the_way() -> None:
    """Also if that one runs, for another pipeline: both pipelines are named."""
    found = difference(two(), two("usage_policy/b", "usage_policy"))
    assert [problem.path for problem in found.obstacles] == [
        "service::pipelines::traces::processors",
        "service::pipelines::traces/b::processors",
    ]


def test_a_pipeline_that_goes_waits_for_a_restart() -> None:
    """It runs on under the policies it has, and those of the others are taken up."""
    found = difference(two(), config({**CHAT, "status": "any"}))
    assert found.changed == ("usage_policy: chat",)
    assert found.needs_restart == ("service::pipelines::traces/b",)
    assert not found.obstacles
    after = taking_over(two(), config({**CHAT, "status": "any"}))
    assert set(after.processors) == {"usage_policy", "usage_policy/b"}
    assert difference(after, after) == Difference()


def test_what_is_in_force_after_taking_over() -> None:
    """The processors of the new, and all else of the old: a second reload of the same finds only what is left."""
    secret = {"api_key": {"header": "x-api-key", "hash": "hmac-sha256", "secret": "s" * 32}}
    old = config(CHAT, exporters__stripe_meter__account="acct_1")
    new = config({**CHAT, "user": secret}, exporters__stripe_meter__account="acct_2")
    after = taking_over(old, new)
    assert difference(after, new) == Difference(needs_restart=("exporters::stripe_meter::account",))
    settings = billing_settings(after)
    assert settings["exporters"] == billing_settings(old)["exporters"]
    assert settings["processors"] == billing_settings(new)["processors"]
    assert "s" * 32 not in str(settings)
    back = taking_over(after, old)
    assert billing_settings(back) == billing_settings(old)
    assert difference(back, old) == Difference()
