"""Which events of a batch an error report means. Pure.

The stream answers a batch as a whole, and a report names the batch, not the event. But a batch has one event for each
event name and customer, so a message that tells the customer tells the event.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_WORD = re.compile(r"[\w.:@/+-]+")


class Member(NamedTuple):
    """One event of a batch."""

    event_id: int
    event_name: str
    customer: str


class Meant(NamedTuple):
    """What the samples of a report say about one batch.

    `named`: event id -> message of Stripe, for events that are certainly meant. `suspects`: event ids of which
    `unnamed` are meant.
    """

    named: dict[int, str]
    suspects: tuple[int, ...]
    unnamed: int


def meant(members: Sequence[Member], event_name: str, messages: Sequence[str]) -> Meant:
    """Read the samples that name one batch under one code, a message each.

    `event_name` is that of the report's meter, empty where it tells none.
    """
    named: dict[int, str] = {}
    rest: list[str] = []
    for message in messages:
        found = [one for one in _about(members, event_name, message) if one.customer in _words(message)]
        if len(found) == 1 and found[0].event_id not in named:
            named[found[0].event_id] = message
        else:
            rest.append(message)
    left = {one.event_id for one in members if not event_name or one.event_name == event_name} - named.keys()
    told = {one.event_id for message in rest for one in _about(members, event_name, message)}
    suspects = sorted(left & told if told & left else left)
    if rest and len(rest) >= len(suspects):  # there are as many errors as events that they can be about
        return Meant(named | {event: rest[min(n, len(rest) - 1)] for n, event in enumerate(suspects)}, (), 0)
    return Meant(named, tuple(suspects) if rest else (), len(rest))


def _about(members: Iterable[Member], event_name: str, message: str) -> list[Member]:
    """Those under the event name of the report; without one, those under the name that its message tells."""
    if event_name:
        return [one for one in members if one.event_name == event_name]
    words = _words(message)
    every = list(members)
    return [one for one in every if one.event_name in words] or every


def _words(message: str) -> set[str]:
    words = _WORD.findall(message)
    return {*words, *(word.rstrip(".:") for word in words)}
