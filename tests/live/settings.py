"""What the run against live Stripe is given by the environment; a live key is refused before anything is called."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

STRIPE = "https://api.stripe.com"
STREAM = "https://meter-events.stripe.com"


class NotToBeRun(Exception):
    """There is nothing to run with, and that is fine."""


class Refused(Exception):
    """What was given must not be used."""


@dataclass(frozen=True)
class Settings:
    """Checked."""

    key: str
    restricted_key: str = ""
    connected_account: str = ""
    api: str = STRIPE
    stream: str = STREAM
    patience: float = 600.0
    """Seconds to wait for what Stripe does in its own time: summaries and error reports."""

    @property
    def real(self) -> bool:
        """Whether it is Stripe."""
        return self.api == STRIPE


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read them.

    Raises:
        NotToBeRun: no key is given.
        Refused: a live key, or an endpoint that is not on this machine.
    """
    key = environment.get("STRIPE_TEST_KEY", "").strip()
    if not key:
        raise NotToBeRun("STRIPE_TEST_KEY is not set; give it a key of a sandbox (sk_test_... or rk_test_...)")
    restricted = environment.get("STRIPE_TEST_RESTRICTED_KEY", "").strip()
    for name, one in (("STRIPE_TEST_KEY", key), ("STRIPE_TEST_RESTRICTED_KEY", restricted)):
        if one and not one.startswith(("sk_test_", "rk_test_")):
            raise Refused(f"{name} is not a test key (sk_test_... or rk_test_...); this makes and bills things")
    endpoint = environment.get("STRIPE_LIVE_ENDPOINT", "").strip().rstrip("/")
    if endpoint and urlsplit(endpoint).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise Refused("STRIPE_LIVE_ENDPOINT is for a double on this machine only; the key would be sent there")
    return Settings(
        key,
        restricted,
        environment.get("STRIPE_TEST_CONNECTED_ACCOUNT", "").strip(),
        endpoint or STRIPE,
        endpoint or STREAM,
        float(environment.get("STRIPE_LIVE_PATIENCE", "600")),
    )
