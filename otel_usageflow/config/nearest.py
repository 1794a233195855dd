"""Did you mean: the known name that is most like an unknown one."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `word`, or None when none is."""
    by_folded = {name.lower().replace("-", "_"): name for name in known}
    found = get_close_matches(word.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """The sentence for an unknown name: what it may have been meant as, and what there is."""
    names = sorted(known)
    guess = nearest(word, names)
    choice = f"; did you mean {guess}?" if guess else ""
    listed = f" (known: {', '.join(names)})" if names else ""
    return f"unknown {what}{choice}{listed}"
