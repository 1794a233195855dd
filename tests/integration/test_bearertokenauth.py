"""The extension `bearertokenauth`: who gets in, and a token file that changes."""

from pathlib import Path
from typing import Any

import pytest
from otlp_harness import FakeHealth
from structlog.testing import capture_logs

from otel_usageflow.component import Context
from otel_usageflow.errors import StartError, Unauthenticated
from otel_usageflow.extensions.bearertokenauth import FACTORY, BearerTokenAuth


def build(**config: Any) -> BearerTokenAuth:
    """The extension, not yet entered."""
    extension = FACTORY.build(FACTORY.config.model_validate(config), Context("bearertokenauth", FakeHealth(), {}))
    assert isinstance(extension, BearerTokenAuth)
    return extension


def gets_in(extension: BearerTokenAuth, value: str | None, header: str = "authorization") -> bool:
    """Whether a request with this header passes."""
    try:
        extension.authenticate({} if value is None else {header: value})
    except Unauthenticated:
        return False
    return True


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        ("Bearer one", True),
        ("bearer  two ", True),
        ("Bearer three", False),
        ("Bearer on", False),
        ("Bearer one, Bearer one", False),
        ("Bearer", False),
        ("Bearer ", False),
        ("Basic one", False),
        ("one", False),
        ("", False),
        (None, False),
        ("Bearer \udcff", False),
    ],
)
async def test_any_of_the_tokens_with_the_scheme(value: str | None, passes: bool) -> None:
    """The scheme in any case, and exactly one of the tokens."""
    async with build(tokens=["one", "two"]) as extension:
        assert gets_in(extension, value) is passes


async def test_header_and_scheme_are_configurable() -> None:
    """`header` names another header; an empty `scheme` means the bare token."""
    async with build(token="t", header="X-Token", scheme="") as extension:
        assert gets_in(extension, "t", "x-token")
        assert not gets_in(extension, "Bearer t", "x-token")
        assert not gets_in(extension, "t")


async def test_the_refusal_does_not_repeat_what_was_shown() -> None:
    """A message that ends up in a log holds neither the tokens nor the guess."""
    async with build(token="right") as extension:
        with pytest.raises(Unauthenticated) as caught:
            extension.authenticate({"authorization": "Bearer wrong"})
    assert "right" not in str(caught.value)
    assert "wrong" not in str(caught.value)


async def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """One token a line; a new file, written or moved into place, counts from the next request on."""
    file = tmp_path / "tokens"
    file.write_text("old\n\n  spare  \n")
    async with build(filename=str(file)) as extension:
        assert gets_in(extension, "Bearer old")
        assert gets_in(extension, "Bearer spare")
        file.write_text("newer\n")
        assert gets_in(extension, "Bearer newer")
        assert not gets_in(extension, "Bearer old")
        other = tmp_path / "other"
        other.write_text("moved\n")
        other.replace(file)
        assert gets_in(extension, "Bearer moved")


async def test_a_file_that_vanishes_changes_nothing(tmp_path: Path) -> None:
    """While the file is being replaced the last tokens stay valid; the log says so once."""
    file = tmp_path / "tokens"
    file.write_text("old\n")
    async with build(filename=str(file)) as extension:
        file.unlink()
        with capture_logs() as logs:
            assert gets_in(extension, "Bearer old")
            assert gets_in(extension, "Bearer old")
        assert [line["log_level"] for line in logs] == ["warning"]
        file.write_text("new\n")
        assert gets_in(extension, "Bearer new")
        assert not gets_in(extension, "Bearer old")


@pytest.mark.parametrize("content", [None, "", "\n  \n"])
async def test_a_file_without_tokens_stops_the_start(tmp_path: Path, content: str | None) -> None:
    """A missing or empty file is an error with its place in the configuration."""
    file = tmp_path / "tokens"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StartError, match="extensions::bearertokenauth::filename"):
        async with build(filename=str(file)):
            pass


@pytest.mark.parametrize("config", [{}, {"token": "a", "tokens": ["b"]}, {"token": " "}, {"tokens": ["a", ""]}])
def test_exactly_one_source_of_tokens(config: dict[str, Any]) -> None:
    """No token, a blank one, or two sources: refused when the file is read, and no token is shown."""
    with pytest.raises(ValueError):  # noqa: PT011  (the words are pydantic's)
        FACTORY.config.model_validate(config)


def test_tokens_are_never_printed() -> None:
    """Neither the configuration nor its dump shows a token."""
    config = FACTORY.config.model_validate({"tokens": ["s3cret"]})
    assert "s3cret" not in repr(config) + config.model_dump_json()
