"""The pages on which connecting an account ends: small, nothing from elsewhere, no secrets."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from aiohttp import web

from otel_usageflow.ledger.connections import Link, Outcome

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:38rem;margin:4rem auto;padding:0 1.25rem;color:#1a1f36;"
    "background:#fff}h1{font-size:1.4rem;margin:0 0 1rem}p{margin:.6rem 0}code{background:#f2f4f7;padding:.1rem}"
    "footer{margin-top:2.5rem;color:#697386;font-size:.875rem}"
    "@media (prefers-color-scheme:dark){body{color:#e3e8ee;background:#14171f}code{background:#252a36}}"
)
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NEW_LINK = "Ask whoever sent you the link for a new one."


def _page(status: int, title: str, *paragraphs: str) -> web.Response:
    told = "".join(f"<p>{escape(text)}</p>" for text in paragraphs)
    return web.Response(
        status=status,
        text=f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>{told}</main>"
        "<footer>otel-usageflow</footer></body></html>\n",
        content_type="text/html",
        headers={"Content-Security-Policy": _POLICY},
    )


def not_ours() -> web.Response:
    """The state was not signed by us, or not to the letter."""
    return _page(
        400,
        "This is not one of our links",
        "The address is incomplete or was changed, or it was made with a key that is no longer in use.",
        f"Nothing was connected. {_NEW_LINK}",
    )


def foreign() -> web.Response:
    """The state is another exporter's, or the other mode's."""
    return _page(
        400,
        "This link belongs to another service",
        "It was made for another configuration of the service, or for the other mode (test or live).",
        f"Nothing was connected. {_NEW_LINK}",
    )


def expired() -> web.Response:
    """It came too late."""
    return _page(410, "This link has expired", f"Nothing was connected. {_NEW_LINK}")


def replayed() -> web.Response:
    """The code is another link's."""
    return _page(
        400,
        "This answer of Stripe was used before",
        "It came with another link. Nothing was connected or changed.",
        "Open the link again that you were sent.",
    )


def incomplete() -> web.Response:
    """Neither a code nor an error came with the state, or several."""
    return _page(
        400,
        "Stripe's answer is incomplete",
        "The address holds neither an answer nor an error. Nothing was connected.",
        "Open the link again that you were sent.",
    )


def denied(why: str) -> web.Response:
    """The owner said no, or Stripe did."""
    return _page(
        403,
        "The account was not connected",
        f"Stripe says: {why}",
        f"Nothing was changed. To connect it after all: {_NEW_LINK}",
    )


def not_now() -> web.Response:
    """The ledger cannot be written, so nothing was begun."""
    return _page(
        503,
        "Not now",
        "This cannot be written down at the moment, so nothing was begun.",
        "Reload this page in a minute.",
    )


def connected(account: str, mode: str, expected: str = "") -> web.Response:
    """It worked."""
    told = [f"The Stripe account {account} is connected ({mode} mode). You can close this page."]
    if expected and expected != account:
        told.append(f"The link was made for the account {expected}. If you meant that one, ask for a new link.")
    return _page(200, "Connected", *told)


def refused(why: str) -> web.Response:
    """Stripe said no to the code, or gave less than is needed."""
    return _page(400, "The account was not connected", why, _NEW_LINK)


def unknown() -> web.Response:
    """The exchange began, and its end is not known."""
    return _page(
        502,
        "It is not known whether the account was connected",
        "Stripe was asked, and its answer did not arrive. It is not asked again, because a code that is used twice "
        "ends the connection.",
        _NEW_LINK,
    )


def used(link: Link, mode: str) -> web.Response:
    """A link that was used before: what became of it."""
    if link.outcome is Outcome.CONNECTED:
        return connected(link.became, mode, link.account)
    if link.outcome is Outcome.DENIED:
        return denied(link.became or "access was denied")
    if link.outcome in (Outcome.TAKEN, Outcome.UNKNOWN):
        return unknown()
    return refused(f"This link was used before. {_sentence(link.became)}".strip())


def all_pages() -> Sequence[web.Response]:
    """One of each, to look at."""
    return (
        not_ours(), foreign(), expired(), replayed(), incomplete(), denied("The user denied your request"), not_now(),
        connected("acct_1", "test", "acct_2"), refused("Stripe says: the code has expired."), unknown(),
    )  # fmt: skip


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""
