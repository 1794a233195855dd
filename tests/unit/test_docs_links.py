"""The documents hang together: links lead somewhere, every component has a page, nothing is left out of an index."""

import re
from pathlib import Path

import pytest

from otel_usageflow.component import Kind
from otel_usageflow.components import builtin

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("proto/*.md")]
)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")


def links(page: Path) -> list[str]:
    """The targets of a page's links that are not on the web."""
    found = (match["target"] for match in _LINK.finditer(_FENCED.sub("", page.read_text())))
    return [target for target in found if not target.startswith(("https://", "http://"))]


def anchors(page: Path) -> set[str]:
    """What can stand after the # of a link to this page."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link between documents names a file that exists, and a heading in it."""
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}, but there is no such heading"


def test_every_component_has_a_page() -> None:
    """docs/<kind>/<name>.md exists for everything that the build contains, and for nothing else."""
    wanted = {f"{factory.kind.value}/{factory.name}.md" for factory in builtin()}
    there = {f"{kind.value}/{page.name}" for kind in Kind for page in (ROOT / "docs" / kind.value).glob("*.md")}
    assert there == wanted


@pytest.mark.parametrize("index", ["docs", "docs/adr"])
def test_an_index_names_every_page(index: str) -> None:
    """Every page can be found from the README.md of docs/ or of docs/adr/."""
    page = ROOT / index / "README.md"
    linked = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
    below = page.parent.glob("*.md") if index == "docs/adr" else page.parent.rglob("*.md")
    pages = {other for other in below if other != page and (index == "docs/adr" or other.parent.name != "adr")}
    assert pages <= linked
