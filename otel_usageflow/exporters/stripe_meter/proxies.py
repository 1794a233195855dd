"""Which proxy the environment names for a call to Stripe: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, as for curl.

They are read by ourselves because aiohttp, asked to trust the environment, looks for `~/.netrc` before each call too,
and refuses every call of ours where that has an entry.
"""

import base64
import urllib.request
from dataclasses import dataclass, field

from yarl import URL

from otel_usageflow.errors import StartError


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where calls go first."""

    url: URL
    """Without what stands before the @."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """What tells the proxy who we are; empty if it need not know."""


def proxy_for(url: str) -> Proxy | None:
    """The proxy for calls to this URL, if any.

    Raises:
        StartError: the environment names one that cannot be used.
    """
    target = URL(url)
    if target.host is None or urllib.request.proxy_bypass(target.host):
        return None
    named = urllib.request.getproxies().get(target.scheme)
    if not named:
        return None
    variable = f"{target.scheme.upper()}_PROXY"
    remedy = f"write {variable}=http://host:port or http://user:password@host:port, or unset it"
    try:
        proxy = URL(named if "://" in named else f"http://{named}")
    except ValueError:
        raise StartError(f"{variable} of the environment is not a URL; {remedy}") from None
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise StartError(
            f"{variable} of the environment names a {proxy.scheme}:// proxy, which is not supported; {remedy}"
        )
    headers = {}
    if proxy.user is not None:
        secret = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {secret}"
    return Proxy(proxy.with_user(None).origin(), headers)
