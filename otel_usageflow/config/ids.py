"""Component and pipeline ids: `type` or `type/name`, as in the Collector."""

import re
from typing import NamedTuple

_TYPE = re.compile(r"[A-Za-z][0-9A-Za-z_]{0,62}")
_NAME = re.compile(r"[\w.\-/]{1,1024}")


class Id(NamedTuple):
    """An id, taken apart; `name` is empty when there is only one of its type."""

    type: str
    name: str


def parse_id(text: str) -> Id:
    """Take `type[/name]` apart.

    Raises:
        ValueError: it has no such form.
    """
    kind, slash, name = text.partition("/")
    if not _TYPE.fullmatch(kind):
        raise ValueError("is not a valid id; write type or type/name, the type in letters, digits and _")
    if slash and not name:
        raise ValueError("is not a valid id; the part after / is empty")
    if slash and not _NAME.fullmatch(name):
        raise ValueError("is not a valid id; the part after / may hold letters, digits and _ - . only")
    return Id(kind, name)
