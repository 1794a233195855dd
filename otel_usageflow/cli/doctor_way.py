"""`doctor`: the key as it is written, and the way to Stripe as the environment has it."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from otel_usageflow.cli.finding import Finding, Level
from otel_usageflow.exporters.stripe_meter.permissions import form, permissions_of
from otel_usageflow.exporters.stripe_meter.proxies import proxy_for

if TYPE_CHECKING:
    from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig

_LIVE = "https://api.stripe.com"


def key(config: "StripeMeterConfig", where: str) -> Iterator[Finding]:
    """What kind of key it is, and in which mode."""
    text, mode = config.api_key.get_secret_value(), config.mode
    kind = "restricted" if text.startswith("rk_") else "secret" if text.startswith("sk_") else "unknown"
    place = f"{where}::api_key"
    if kind == "secret":
        yield Finding(
            Level.WARNING,
            place,
            f"a secret key for {mode} mode: it may do everything in the account",
            f"make a restricted key, with the form filled in: {form(permissions_of(config), mode)}",
        )
    elif kind == "unknown":
        yield Finding(Level.WARNING, place, "not in the form of Stripe's keys", "Stripe's keys begin with sk_ or rk_")
    else:
        yield Finding(Level.OK, place, f"a restricted key for {mode} mode")
    if mode == "test" and kind != "unknown":
        yield Finding(
            Level.NOTE,
            place,
            "a test key: nothing is billed to anybody",
            "right for trying; live usage needs a live key",
        )


def way(config: "StripeMeterConfig", where: str) -> Iterator[Finding]:
    """Where calls go, through which proxy, and whose certificates are trusted.

    Raises:
        StartError: the environment names a proxy that cannot be used.
    """
    if config.endpoints.api.rstrip("/") != _LIVE:
        yield Finding(
            Level.NOTE,
            f"{where}::endpoints::api",
            f"{config.endpoints.api} is not Stripe",
            "right for a test double; otherwise leave it out",
        )
    called = {"api": config.endpoints.api}
    if config.streams:
        called["meter_events"] = config.endpoints.meter_events
    if config.connect is not None:
        called["connect"] = config.endpoints.connect
    for name, url in called.items():
        if (proxy := proxy_for(url)) is not None:
            who = " with a user" if proxy.headers else ""
            text = f"calls go through the proxy {proxy.url}{who}"
            yield Finding(Level.NOTE, f"{where}::endpoints::{name}", text, "HTTPS_PROXY and NO_PROXY say so")
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if named := os.environ.get(variable):
            text = f"besides Stripe's, authorities in {named} are trusted"
            yield Finding(
                Level.NOTE, where, text, f"{variable} says so; right where a proxy of yours reads the traffic"
            )
