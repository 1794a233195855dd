"""Answers that Stripe would not give: of proxies in its place, and its own after they were spoiled on the way."""

from otel_usageflow.testing.stripe.faults import Fault
from otel_usageflow.testing.stripe.message import Answer

_HTML = {"Content-Type": "text/html; charset=utf-8"}
ELSEWHERE = "https://login.proxy.test/?back=stripe"
"""Where a redirect leads; there is nobody."""


def by_proxy(fault: Fault) -> Answer:
    """What something else answers."""
    if fault is Fault.REDIRECT:
        return Answer(302, {}, _HTML | {"Location": ELSEWHERE}, text="<h1>Found</h1>")
    if fault is Fault.BAD_GATEWAY:
        return Answer(502, {}, _HTML, text="<h1>502 Bad Gateway</h1>")
    return Answer(200, {}, _HTML, text="<!doctype html><title>Sign in</title><h1>Sign in to the network</h1>")


def spoiled(answer: Answer, fault: Fault) -> Answer:
    """What becomes of an answer on the way."""
    if fault is Fault.STALL:
        return answer._replace(stall=True)
    if fault is Fault.EMPTY:
        return answer._replace(status=200, text="")
    if fault is Fault.WRONG_TYPE:
        return answer._replace(headers={**answer.headers, "Content-Type": "text/plain; charset=utf-8"})
    return answer._replace(malformed=True)
