"""What is worth knowing about recorded spans before policies are written: what is missing, and what comes twice."""

from collections.abc import Iterator
from typing import NamedTuple

from otel_usageflow.policy.completeness import findings
from otel_usageflow.policy.discovery.count import MOST_DISTINCT, OTHERS, Findings
from otel_usageflow.policy.discovery.facts import could_be_user

CAPTURING = "docs/capturing.md"


class Remark(NamedTuple):
    """One thing to know."""

    about: str
    """A stable word for machines."""
    text: str


def remarks(found: Findings) -> Iterator[Remark]:
    """All there is to say, the most important first."""
    if not found.spans:
        yield Remark("no_spans", "There were no spans.")
        return
    if not found.requests:
        yield Remark(
            "no_requests",
            "No span is a request: that takes kind SERVER, and an http.* or url.* attribute or rpc.system: grpc.",
        )
    else:
        yield from _missing(found)
        yield from _users(found)
        yield from _twice(found)
    yield from _rest(found)


def requests(number: int) -> str:
    """How many requests, in words."""
    return f"{number} request{'' if number == 1 else 's'}"


def excluded_scopes(found: Findings) -> list[str]:
    """The instrumentation scopes of which every request is another scope's as well: they can be left out."""
    scopes: list[str] = []
    for (service, one, two), number in sorted(found.doubled.items()):
        fewer = min((one, two), key=lambda scope: (found.scopes[service, scope], scope))
        total = sum(count for (_, scope), count in found.scopes.items() if scope == fewer)
        if (
            number == total
            and fewer.strip()
            and fewer != OTHERS
            and fewer not in scopes
            and not {one, two} & set(scopes)
        ):
            scopes.append(fewer)
    return scopes


def _users(found: Findings) -> Iterator[Remark]:
    useful = [place for place, count in found.places.items() if count.usable and could_be_user(place)]
    if not found.headers:
        yield Remark(
            "no_headers",
            "No request header is captured. If the user stands in one, tell the instrumentation to capture it: "
            f"{CAPTURING}, 'What each stack must be told'.",
        )
    if not useful:
        yield Remark(
            "no_user",
            "Nothing on the requests looks like a user by its name. Capture the header that carries it, or set "
            f"enduser.id on the SERVER span: {CAPTURING}.",
        )
    for place, count in sorted(found.places.items()):
        if count.redacted:
            yield Remark(
                "redacted",
                f"{place.source} {place.name} looks redacted on {count.redacted} of {requests(count.requests)}; what "
                "is redacted is never a user.",
            )
        if count.over:
            yield Remark(
                "many_values",
                f"{place.source} {place.name} has over {MOST_DISTINCT} distinct values: a user, or something new "
                "with every request?",
            )
    if any(place.source == "jwt" for place in useful):
        yield Remark(
            "jwt",
            "The tokens were read, not verified. Write jwks_url or another place of keys under verify, unless the "
            "API has verified them before it answers 2xx.",
        )


def _twice(found: Findings) -> Iterator[Remark]:
    if found.nested:
        yield Remark(
            "nested",
            f"{found.nested} SERVER spans are the inner ones of requests, from instrumentations inside each other; "
            "they are not counted again.",
        )
    excluded = excluded_scopes(found)
    for (service, one, two), number in sorted(found.doubled.items()):
        way = next((scope for scope in excluded if scope in {one, two}), None)
        remedy = (
            f"exclude_scopes: [{way}]" if way else "leave one of them out with exclude_scopes, or a policy's match"
        )
        yield Remark(
            "doubled",
            f"In {service}, {one} and {two} both report {requests(number)}, which would be billed twice: {remedy}.",
        )
    for (one, two), number in sorted(found.crossed.items()):
        yield Remark(
            "crossed",
            f"{one or '(no service.name)'} and {two or '(no service.name)'} both report {requests(number)} at the "
            "same paths, one behind the other; name one of them in match::service.",
        )


def _missing(found: Findings) -> Iterator[Remark]:
    for finding in findings(found.arrivals):
        yield Remark("sampled", f"{finding.text[:1].upper()}{finding.text[1:]}. Remedy: {finding.remedy}.")
    if found.cut_short:
        yield Remark(
            "cut_short",
            f"{requests(found.cut_short)} lost attributes to a limit of the SDK; the user may be among them. Raise "
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, or set fewer.",
        )


def _rest(found: Findings) -> Iterator[Remark]:
    if found.no_http:
        yield Remark(
            "no_http",
            f"{found.no_http} SERVER spans are neither HTTP requests nor gRPC calls that say their method.",
        )
    if found.malformed:
        yield Remark("malformed", f"{found.malformed} SERVER spans have no valid ids, and cannot be billed.")
    if found.without_path:
        yield Remark(
            "without_path",
            f"{requests(found.without_path)} without path and route; only the endpoint /** fits.",
        )
    if found.not_found:
        yield Remark(
            "not_found",
            f"{requests(found.not_found)} answered with 404, at paths that never answered anything else; such paths "
            "are not listed.",
        )
    if found.further:
        yield Remark("further", f"{requests(found.further)} of endpoints beyond the first 500, which are not listed.")
    if found.unnamed:
        yield Remark("unnamed", "There are more attributes, headers and parameters than are listed.")
