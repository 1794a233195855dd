"""Remarks on how tokens are verified: what can hardly be meant is said at the start, and stops nothing."""

from typing import Any

import pytest
from span_builder import policy

from otel_usageflow.processors.usage_policy import FACTORY, UsagePolicyConfig

LONG = "x" * 32
A, B = "https://a.example.com/keys", "https://b.example.com/keys"


def remarks(*tokens: Any) -> list[str]:
    rule = policy(user=[{"jwt": {"claim": "sub", **token}} for token in tokens])
    config = UsagePolicyConfig(policies=(rule,))
    assert FACTORY.check(config) == []
    return [str(remark) for remark in FACTORY.warn(config)]


@pytest.mark.parametrize(
    ("tokens", "places"),
    [
        ([{"verify": {"jwks_url": A}}], []),
        ([{"verify": {"jwks_url": A}}, {"verify": {"jwks_url": B}}], ["0", "1"]),
        ([{"verify": {"jwks_url": A, "issuer": "a"}}, {"verify": {"jwks_url": B}}], ["1"]),
        ([{"verify": {"jwks_url": A, "issuer": "a"}}, {"verify": {"jwks_url": B, "issuer": "b"}}], []),
        ([{"verify": {"jwks_url": A}}, {"verify": {"jwks_url": B}, "cookie": "session"}], []),
        ([{"verify": {"jwks_url": A}}, {"verify": {"jwks_url": A, "audience": "b"}}], []),
        ([{"verify": {"jwks_url": A}}, {"verify": {"secret": LONG}}], ["0"]),
        ([{"verify": {"jwks_url": A}}, {"verify": "none"}], []),
    ],
)
def test_several_issuers_are_told_apart(tokens: Any, places: list[str]) -> None:
    """Without `issuer`, tokens of the one would be looked for among the keys of the other, again and again."""
    found = remarks(*tokens)
    assert [remark.partition("::jwt::verify: ")[0] for remark in found] == [f"policies::0::user::{n}" for n in places]
    assert all("write issuer" in remark for remark in found)


def test_a_short_secret_is_doubtful() -> None:
    """RFC 7518 asks for as many bytes as the digest has; the secret itself is not said."""
    (remark,) = remarks({"verify": {"secret": "a little short"}})
    assert remark.startswith("policies::0::user::jwt::verify::secret: is shorter than 32 bytes")
    assert "little" not in remark
