"""The examples do what their pages say."""

import shutil
from pathlib import Path

import pytest
from documents import ROOT, copy_of, follow, shell
from processes import free_port

EXAMPLES = sorted(folder.name for folder in (ROOT / "examples").iterdir() if folder.is_dir())
TOOLS = {"go": ("go",), "node": ("node", "npm"), "java-agent": ("java", "mvn")}
"""What an example needs besides curl."""
PORTS = ("4317", "4318", "13133", "12111", "8000")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the documents use curl")
@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_does_what_its_page_says(example: str, tmp_path: Path) -> None:
    """Every command of an example's README works from a clean directory, and prints what the page shows."""
    if lacking := [tool for tool in TOOLS.get(example, ()) if shutil.which(tool) is None]:
        pytest.skip(f"{' and '.join(lacking)} not found")
    ports = {port: str(free_port()) for port in PORTS}
    copy_of(["examples", "collector_config"], tmp_path, ports)
    async with shell(tmp_path) as bash:
        assert await follow(tmp_path / "examples" / example / "README.md", bash, tmp_path) > 0


def test_every_example_is_listed() -> None:
    """A folder in examples/ has a line in examples/README.md, and every line has a folder."""
    listed = [
        line.split("`")[1].rstrip("/")
        for line in (ROOT / "examples/README.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    assert sorted(listed) == EXAMPLES
