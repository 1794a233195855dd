"""Which policy takes a request: by a second implementation that is slow and plainly right, and the same every time.

The reference works on what endpoints and paths mean, and never reads their text: the test writes both in every
spelling that docs/policies.md allows. It shares no code with the package.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st
from span_builder import NOW, engine, payload, policy, span

ONE, REST = object(), object()
"""A parameter of one segment, and one of any number of segments at the end; any other part is a word."""
WORDS = ["a", "b", "users", "me", "é", "a b", "A", "%", "%41", "+", "x:y", ".", "..", "a/b", "{a}", "*", "?", "#"]
"""Segments, decoded; a slash in one was sent as %2F."""


def takes(parts: Sequence[object], words: Sequence[str]) -> bool:
    """The reference: whether a template takes a path."""
    if not parts:
        return not words
    if parts[0] is REST:
        return True
    if not words:
        return False
    fits = words[0] != "" if parts[0] is ONE else words[0] == parts[0]
    return fits and takes(parts[1:], words[1:])


def takes_route(parts: Sequence[object], route: Sequence[object]) -> bool:
    """The reference for a span without a path: what a parameter of the route stood for is unknown."""
    if not parts:
        return not route
    if parts[0] is REST:
        return True
    if not route or route[0] is REST:
        return False
    return (parts[0] is ONE or parts[0] == route[0]) and takes_route(parts[1:], route[1:])


class Endpoint(NamedTuple):
    """What an endpoint means, and how it is written."""

    methods: frozenset[str]
    """Empty for any."""
    parts: tuple[object, ...]
    text: str

    def of(self, method: str | None) -> bool:
        """Whether it takes this method."""
        return not self.methods or (method or "").upper() in self.methods


class Path(NamedTuple):
    """What a path means, and how it was sent."""

    words: tuple[str, ...]
    text: str


def _escaped(draw: st.DrawFn, word: str, always: str) -> str:
    """A segment as it may be written: its characters as they are or as escapes, in either case."""
    made = ""
    for char in word:
        escape = quote(char, safe="") if quote(char, safe="") != char else f"%{ord(char):02x}"
        made += escape if char in always or draw(st.booleans()) else char
    return made


@st.composite
def endpoints(draw: st.DrawFn, words: Sequence[str] = WORDS) -> Endpoint:
    """An endpoint in any of the spellings that are allowed."""
    parts: list[object] = draw(st.lists(st.sampled_from([*words, ONE, ONE, ONE]), max_size=4))
    parts += draw(st.sampled_from([[], [], [REST]]))
    written = []
    for index, part in enumerate(parts):
        if part is ONE:
            written.append(draw(st.sampled_from(["*", f":p{index}", f"{{p{index}}}"])))
        elif part is REST:
            written.append(draw(st.sampled_from(["**", "*rest"])))
        else:
            written.append(_escaped(draw, str(part), "%/ ?#{}*"))
    methods, text = draw(
        st.sampled_from([({"GET"}, "GET"), ({"POST"}, "post"), ({"GET", "PUT"}, "GET|put"), (set(), "*")])
    )
    end = draw(st.sampled_from(["", "/"])) if parts else ""
    return Endpoint(frozenset(methods), tuple(parts), f"{text} /{'/'.join(written)}{end}")


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Endpoint], Path]:
    """Endpoints, and a path that one of them may well take."""
    of = draw(st.lists(endpoints(), min_size=1, max_size=8))
    words: list[str] = []
    for part in draw(st.sampled_from(of)).parts:
        if part is REST:
            words += draw(st.lists(st.sampled_from(WORDS), max_size=2))
        elif part is ONE:
            words.append(draw(st.sampled_from([*WORDS, ""])))
        else:
            words.append(draw(st.sampled_from([str(part)] * 6 + ["", "b", "A"])))
    words += draw(st.sampled_from([[]] * 6 + [["a"], [""], ["", ""]]))
    if words and words[-1] == "":
        words.append("")  # of the slashes at the end one is ignored, so that the last word is what was drawn
    text = "/" + "/".join(_escaped(draw, word, "%/ ?#") for word in words)
    text += draw(st.sampled_from(["", "/"])) if words and words[-1] else ""
    meant = words[:-1] if words and words[-1] == "" else words
    return of, Path(tuple(meant) if meant != [""] else (), text)


def spelled(name: str, text: str) -> dict[str, Any]:
    """A path under one of the attributes that may carry it."""
    forms = {"http.target": f"{text}?a=/b", "http.url": f"http://h:80{text}?a", "url.full": f"https://h{text}#x"}
    return {name: forms.get(name, text)}


def billed_by(attributes: dict[str, Any], endpoints_: Sequence[Endpoint], event_names: Sequence[str]) -> set[int]:
    """Which of the policies bill a request; it is the same again, and counted once as matched or as unmatched."""
    judged = engine(
        *(
            policy(name=str(index), endpoint=one.text, event_name=event_name, status="any")
            for index, (one, event_name) in enumerate(zip(endpoints_, event_names, strict=True))
        )
    )
    data = payload(span(attributes))
    batch = judged.evaluate(data, NOW)
    assert judged.evaluate(data, NOW) == batch
    assert (batch.requests, batch.unmatched) == (1, 0 if batch.records else 1)
    return {int(record.terms.policy) for record in batch.records}


METHODS = st.sampled_from(["GET", "get", "POST", "PUT", "DELETE", None])
NAMES = st.sampled_from(["url.path", "http.target", "http.url", "url.full"])


def request(method: str | None, more: dict[str, Any]) -> dict[str, Any]:
    """Attributes of an HTTP request."""
    return {"http.response.status_code": 200, **({} if method is None else {"http.request.method": method}), **more}


@given(situations(), METHODS, NAMES)
@settings(max_examples=400)
@example(([Endpoint(frozenset(), ("a/b", ONE), "* /a%2Fb/*")], Path(("a/b", "x"), "/a%2fb/x/")), "GET", "http.target")
def test_matching_is_what_the_reference_says(
    situation: tuple[list[Endpoint], Path], method: str | None, name: str
) -> None:
    """Of policies with meters of their own, each takes a request that its endpoint fits, and no other."""
    of, path = situation
    attributes = request(method, spelled(name, path.text))
    expected = {index for index, one in enumerate(of) if one.of(method) and takes(one.parts, path.words)}
    assert billed_by(attributes, of, [str(index) for index in range(len(of))]) == expected


@given(situations(), st.data(), METHODS)
def test_the_first_of_one_event_name_wins(
    situation: tuple[list[Endpoint], Path], data: st.DataObject, method: str | None
) -> None:
    """Of policies with one event name, the first in order takes a request, and nobody else bills it there."""
    of, path = situation
    event_names = data.draw(st.lists(st.sampled_from("xy"), min_size=len(of), max_size=len(of)))
    fitting = [index for index, one in enumerate(of) if one.of(method) and takes(one.parts, path.words)]
    expected = {min((i for i in fitting if event_names[i] == event_names[index]), default=index) for index in fitting}
    assert billed_by(request(method, spelled("url.path", path.text)), of, event_names) == expected


PLAIN = ["a", "users", "A"]
SPELLINGS = {
    "braces": ("/", "{{{}}}", "{{{}:path}}"),
    "colon": ("/", ":{}", "*{}"),
    "flask": ("/", "<int:{}>", "<path:{}>"),
    "django": ("", "<str:{}>", "<path:{}>"),
    "next": ("/", "[{}]", "[...{}]"),
}
"""Framework -> what a route begins with, a parameter of one segment, and one of several."""


@given(
    st.lists(endpoints(PLAIN), min_size=1, max_size=12),
    st.lists(st.sampled_from([*PLAIN, ONE, ONE]), max_size=3),
    st.booleans(),
    st.sampled_from(sorted(SPELLINGS)),
)
def test_every_spelling_of_a_route_means_the_same(
    of: list[Endpoint], parts: list[object], rest: bool, framework: str
) -> None:
    """Where a span has only a route, the policies that take it are the reference's, however frameworks spell it."""
    route = [*parts, REST] if rest else parts
    begin, one, several = SPELLINGS[framework]
    written = [
        one.format(f"p{i}") if part is ONE else several.format("r") if part is REST else str(part)
        for i, part in enumerate(route)
    ]
    text = begin + "/".join(written) if written else "/"
    expected = {index for index, each in enumerate(of) if each.of("GET") and takes_route(each.parts, route)}
    attributes = request("GET", {"http.route": text})
    assert billed_by(attributes, of, [str(index) for index in range(len(of))]) == expected
