"""What the log says about a component that has started: where it listens or lies, and which policies it has."""

from typing import Any

_PLACES = {"address": "listening", "grpc_address": "grpc", "http_address": "http", "where": "file"}


def announcement(config: Any, component: Any) -> dict[str, object]:
    """The fields of the line. Names and addresses only."""
    said: dict[str, object] = {}
    for attribute, word in _PLACES.items():
        if (place := getattr(component, attribute, None)) is not None:
            said[word] = str(place)
    if policies := getattr(config, "policies", None):
        said["policies"] = [str(policy.name) for policy in policies]
    return said
