"""The extension `bearertokenauth`: receivers let in who shows one of the tokens."""

import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import structlog
from pydantic import model_validator

from otel_usageflow.component import Context, Factory, Kind
from otel_usageflow.config.types import ConfigModel, Secret
from otel_usageflow.errors import StartError, Unauthenticated
from otel_usageflow.extensions.credentials import after_scheme

_log = structlog.get_logger()

_Signature = tuple[int, int, int]


class BearerTokenAuthConfig(ConfigModel):
    """`extensions: bearertokenauth:`; exactly one of `token`, `tokens` and `filename`."""

    scheme: str = "Bearer"
    """What stands before the token, or empty if nothing does."""
    header: str = "Authorization"
    token: Secret | None = None
    tokens: list[Secret] = []
    filename: str | None = None
    """A file with one token a line; it is read again when it changes."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("token", "tokens", "filename") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("give exactly one of token, tokens and filename")
        return self


class BearerTokenAuth:
    """Compares the header of a request with the tokens, in a time that does not depend on them."""

    def __init__(self, config: BearerTokenAuthConfig, context: Context) -> None:
        self._config = config
        self._path = f"extensions::{context.id}"
        self._header = config.header.lower()
        secrets = [config.token] if config.token is not None else config.tokens
        self._tokens = _clean(secret.get_secret_value() for secret in secrets)
        self._file = None if config.filename is None else Path(config.filename)
        self._seen: _Signature | None = None

    async def __aenter__(self) -> Self:
        if self._file is not None:
            try:
                self._seen, self._tokens = _signature(self._file), _read(self._file)
            except (OSError, UnicodeDecodeError) as error:
                raise StartError(f"{self._path}::filename: cannot read {self._file}: {error}") from error
            if not self._tokens:
                raise StartError(f"{self._path}::filename: {self._file} holds no token; write one a line")
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def authenticate(self, headers: Mapping[str, str]) -> None:
        """Let the request pass, or not.

        Raises:
            Unauthenticated: the header is missing, or holds none of the tokens.
        """
        self._follow_file()
        shown = headers.get(self._header)
        if shown is None:
            raise Unauthenticated(f"the header {self._header} is missing")
        token = after_scheme(shown, self._config.scheme)
        # Every token is compared, so that the time does not tell which of them was close.
        matches = [hmac.compare_digest(token, each) for each in self._tokens]
        if not any(matches):
            raise Unauthenticated(f"the header {self._header} holds no valid token")

    def _follow_file(self) -> None:
        if self._file is None:
            return
        try:
            signature = _signature(self._file)
            if signature == self._seen:
                return
            tokens = _read(self._file)
        except (OSError, UnicodeDecodeError) as error:
            if self._seen is not None:  # said once; the tokens last read stay valid
                _log.warning("cannot read the tokens again", path=self._path, error=str(error))
            self._seen = None
            return
        self._seen, self._tokens = signature, tokens
        _log.info("tokens read again", path=self._path, tokens=len(tokens))


def _clean(tokens: Any) -> Sequence[bytes]:
    return tuple(token.strip().encode() for token in tokens if token.strip())


def _read(file: Path) -> Sequence[bytes]:
    return _clean(file.read_text(encoding="utf-8").splitlines())


def _signature(file: Path) -> _Signature:
    """Changes when the file is written, and when another is moved to its place."""
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


FACTORY = Factory(
    kind=Kind.EXTENSION,
    name="bearertokenauth",
    config=BearerTokenAuthConfig,
    build=BearerTokenAuth,
    serves="authenticator",
)
