"""A starter configuration from what was found: valid, commented, and sending nothing until somebody has read it.

What stands in it comes from spans, so anybody may have written it: texts are quoted, `$` is doubled so that nothing
is taken for an environment variable, and comments hold only characters that can be printed.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.discovery.choice import choose, source_of
from otel_usageflow.policy.discovery.count import GRPC, OTHERS, EndpointCount, EndpointKey, Findings, PlaceCount
from otel_usageflow.policy.discovery.facts import Place
from otel_usageflow.policy.discovery.kind import REASONS, EndpointKind, kind_of
from otel_usageflow.policy.discovery.remarks import CAPTURING, excluded_scopes, remarks, requests
from otel_usageflow.policy.discovery.template import specificity, written

MOST_POLICIES: Final = 200
_FALLBACK: Final = {"header": "x-account-id"}

_HEAD: Final = """\
# A starter configuration, made by `otel-usageflow discover` from spans. It is a guess: read it, delete what is not to
# be billed, and see what it bills before it does:
#
#   otel-usageflow validate --config THIS_FILE
#   otel-usageflow preview --config THIS_FILE --input SPANS
"""
_RECEIVERS: Final = """
receivers:
  otlp:
    protocols:
      grpc: {endpoint: 127.0.0.1:4317}
      http: {endpoint: 127.0.0.1:4318}
"""
_TAIL: Final = """
# Usage is printed, and nothing is sent to Stripe. When the policies are right, put these in place of debug, and
# stripe_meter in place of debug in the pipeline:
#
# exporters:
#   stripe_meter:
#     api_key: ${env:STRIPE_API_KEY}
#     sending_queue: {storage: sqlite_storage}
#
# extensions:
#   sqlite_storage: {directory: ./usageflow-data}
exporters:
  debug: {}

service:
  # extensions: [sqlite_storage]
  pipelines:
    traces:
      receivers: [otlp]
      processors: [usage_policy]
      exporters: [debug]
"""


def starter(found: Findings) -> str:
    """The text of a configuration file."""
    kinds = [(key, count, kind_of(key, count)) for key, count in found.endpoints.items()]
    kinds.sort(key=lambda one: (specificity(one[0][1]), one[0][0] is None, one[0][0] or ""))
    billed = [(key, count) for key, count, kind in kinds if kind is EndpointKind.API]
    out = [_HEAD]
    for remark in remarks(found):
        out.append(textwrap.fill(_plain(remark.text), 110, initial_indent="#\n# ", subsequent_indent="# ") + "\n")
    out.append(_RECEIVERS)
    out.append("\nprocessors:\n  usage_policy:\n")
    if scopes := excluded_scopes(found):
        out.append("    # Their requests are reported by another instrumentation as well.\n")
        out.append(f"    exclude_scopes: {_value(scopes)}\n")
    out.append(
        "    # All policies have one event_name, so a request that several fit is billed once, by the first.\n"
    )
    out.append("    policies:\n")
    names: set[str] = set()
    policies = [text for key, count in billed[:MOST_POLICIES] for text in _policy(key, count, found, names)]
    out += policies or [_EXAMPLE]
    left_out = [(key, REASONS[kind]) for key, _, kind in kinds if kind is not EndpointKind.API]
    left_out += [(key, f"only the first {MOST_POLICIES} are written") for key, _ in billed[MOST_POLICIES:]]
    if left_out:
        out.append("\n    # Left out:\n")
        out += [f"    #   {_plain(endpoint_text(key))}: {why}\n" for key, why in left_out]
    out.append(_TAIL)
    return "".join(out)


_EXAMPLE: Final = """\
      # Nothing to bill was found; this is an example.
      - name: example
        endpoint: POST /v1/example
        user: {header: x-account-id}
        customer: {metadata_field: account_id}
        event_name: api_request
"""


def endpoint_text(key: EndpointKey) -> str:
    """`METHOD /path` or `grpc SERVICE/METHOD` as a policy has it."""
    method, template = key
    if method == GRPC:
        return f"{GRPC} {written(template).removeprefix('/')}"
    return f"{method or '*'} {written(template)}"


def _policy(key: EndpointKey, count: EndpointCount, found: Findings, names: set[str]) -> Iterator[str]:
    places = choose(key[1], count)
    source = source_of(places[0][0]) if places else _FALLBACK
    policy: dict[str, Any] = {"name": _name(key, names), "endpoint": endpoint_text(key)}
    service = max(count.shared, key=lambda one: (count.services[one], one)) if count.shared else ""
    if service.strip() and service != OTHERS:
        policy["match"] = {"service": service}
    policy |= {
        "user": source,
        "customer": {"metadata_field": _field(places[0][0]) if places else "account_id"},
        "event_name": "api_request",
    }
    try:
        PolicyConfig.model_validate(policy)
    except ValidationError:
        yield f"      # {_plain(policy['endpoint'])}: cannot be written as an endpoint\n"
        return
    names.add(policy["name"])
    yield f"      # {_requests(count)}\n"
    if count.shared:
        others = ", ".join(sorted(count.shared - {service}))
        yield f"      # {_plain(others)} reports the same requests; only one of them is to be billed.\n"
    if not places:
        yield f"      # No user was found on these requests; this header has to be captured: {CAPTURING}.\n"
    for position, (place, number) in enumerate(places[:4]):
        told = _told(place, number, count, found.places.get(place))
        yield f"      # {'user' if position == 0 else 'or  '}: {told}\n"
    if places and places[0][0].source == "jwt":
        yield "      # verify: none believes any token; write verify: {jwks_url: ...} unless the API verifies it.\n"
    for index, (name, value) in enumerate(policy.items()):
        yield f"      {'- ' if index == 0 else '  '}{name}: {_value(value)}\n"


def _requests(count: EndpointCount) -> str:
    services = ", ".join(_plain(service) or "(no service.name)" for service in sorted(count.services))
    return f"{requests(count.requests)}, {count.billable} of them successful, of {services}"


def _told(place: Place, number: int, count: EndpointCount, total: PlaceCount | None) -> str:
    distinct = ""
    if total is not None:
        number_of_values = f"{'over ' if total.over else ''}{len(total.distinct) - total.over}"
        distinct = f", {number_of_values} {'value' if number_of_values == '1' else 'values'} in all"
    return f"{_plain(place.source)} {_plain(place.name)}, on {number} of {count.requests}{distinct}"


def _field(place: Place) -> str:
    """A name for the customer's metadata field: what is stored there has to be what the source answers with."""
    if place.source in {"api_key", "bearer", "query_key"}:
        return "api_key_sha256"
    words = re.sub(r"[^a-z0-9]+", "_", place.name.rpartition("/")[2].lower()).strip("_").removeprefix("x_")
    return words[:40] if words not in {"", "id", "id2", "sub", "user", "subject"} else "account_id"


def _name(key: EndpointKey, taken: set[str]) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", endpoint_text(key).lower()).strip("-")[:60].strip("-") or "any"
    name, number = words, 1
    while name in taken:
        number += 1
        name = f"{words}-{number}"
    return name


def _value(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_value(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", value) and value.lower() not in {"null", "true", "false"}:
        return str(value)
    # JSON's escapes are YAML's, but for pairs of surrogates; so what can be printed stays as it is.
    return "".join(map(_escaped, json.dumps(value.replace("$", "$$"), ensure_ascii=False)))


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _plain(text: str) -> str:
    """Text for a comment: nothing in it ends the line."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
