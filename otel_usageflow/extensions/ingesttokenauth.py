"""The extension `ingesttokenauth`: receivers let in who shows an ingest token, which decides who is billed.

The tokens are in the ledger (`otel-usageflow connect token`); here are their digests, in memory, read again within
half a second of a change. A request costs one SHA-256 and one look-up. The look-up is by digest, of which nobody can
choose a part, so that the time it takes tells nothing about the tokens that there are.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Self

import structlog
from pydantic import Field

from otel_usageflow.component import Context, Factory, Kind, Measurement
from otel_usageflow.config.types import ConfigModel
from otel_usageflow.errors import StartError, Unauthenticated, Unavailable
from otel_usageflow.extensions.credentials import after_scheme
from otel_usageflow.ledger.ingest_tokens import IngestToken, TokenState, digest
from otel_usageflow.ledger.ledger import Storage
from otel_usageflow.model.caller import Caller

_log = structlog.get_logger(__name__)

POLL: Final = 0.5
"""Seconds between two looks for tokens that were made or revoked."""
_NOTE_USED: Final = 60.0
"""Seconds after which it is written down which tokens were used."""
_HOUR: Final = 3_600.0
MISSING, UNKNOWN = "missing", "unknown"
_CAUSES: Final = (MISSING, UNKNOWN, *(state.value for state in TokenState if state is not TokenState.VALID))


class IngestTokenAuthConfig(ConfigModel):
    """`extensions: ingesttokenauth:`."""

    storage: str = Field(description="The id of the storage extension whose ledger has the tokens.")
    scheme: str = "Bearer"
    """What stands before the token, or empty if nothing does."""
    header: str = "Authorization"


class _Following(NamedTuple):
    book: str
    tell: Callable[[str], None]
    told: set[str]


class IngestTokenAuth:
    """Looks up the token of each request."""

    def __init__(self, config: IngestTokenAuthConfig, context: Context, *, poll: float = POLL) -> None:
        storage: Storage | None = context.extensions.get(config.storage)
        self._path = f"extensions::{context.id}"
        if storage is None or not hasattr(storage, "ingest_tokens"):
            raise StartError(
                f"{self._path}::storage: {config.storage} is no storage that keeps ingest tokens; list an extension "
                "such as sqlite_storage under service::extensions"
            )
        self._id = context.id
        self._kept = storage.ingest_tokens
        self._header = config.header.lower()
        self._scheme = config.scheme
        self._now = context.clock
        self._poll = poll
        self._tokens: Mapping[bytes, IngestToken] = {}
        self._change = -1
        self._used: dict[str, float] = {}
        """Token -> the hour in which it was last used."""
        self._noted: dict[str, float] = {}
        self._refused = Counter(dict.fromkeys(_CAUSES, 0))
        self._accepted = 0
        self._following: list[_Following] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._troubled = False

    async def __aenter__(self) -> Self:
        """Read the tokens, and go on to follow them."""
        try:
            await self._look()
        except Unavailable as error:
            raise StartError(f"{self._path}: the tokens cannot be read: {error}") from error
        self._tasks = [asyncio.create_task(self._look_regularly()), asyncio.create_task(self._note_regularly())]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, and write down which tokens were used."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Unavailable):
            await self._note()

    def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """Who is calling.

        Raises:
            Unauthenticated: no token, or none that lets anybody in.
        """
        shown = headers.get(self._header)
        secret = b"" if shown is None else after_scheme(shown, self._scheme)
        if not secret:
            raise self._refusal(MISSING, f"the header {self._header} is missing, or holds no token{self._form()}")
        token = self._tokens.get(digest(secret))
        if token is None:
            raise self._refusal(UNKNOWN, "this ingest token is not known here; ask for another one")
        now = self._now()
        state = token.state(now)
        if state is not TokenState.VALID:
            raise self._refusal(state.value, f"the ingest token {token.id} is {state.value}; ask for another one")
        self._used[token.id] = now // _HOUR * _HOUR
        self._accepted += 1
        return Caller(token.account, token.book, token.id)

    def follow_accounts(self, book: str, tell: Callable[[str], None]) -> Callable[[], None]:
        """Call `tell` for each account for which a token of this book is valid: now, and when more come."""
        following = _Following(book, tell, set())
        self._following.append(following)
        self._tell_accounts()
        return lambda: self._following.remove(following)

    async def measure(self) -> Sequence[Measurement]:
        """How many tokens there are, and who was not let in."""
        now = self._now()
        states = Counter(dict.fromkeys(TokenState, 0))
        states.update(token.state(now) for token in self._tokens.values())
        return [
            *(
                Measurement(
                    "otel_usageflow_ingest_tokens",
                    "gauge",
                    number,
                    "Ingest tokens, by whether they let anybody in.",
                    {"extension": self._id, "state": state.value},
                )
                for state, number in states.items()
            ),
            Measurement(
                "otel_usageflow_ingest_calls_total",
                "counter",
                self._accepted,
                "Calls that came with a valid ingest token.",
                {"extension": self._id},
            ),
            *(
                Measurement(
                    "otel_usageflow_ingest_refused_total",
                    "counter",
                    number,
                    "Calls that were not let in for want of a valid ingest token, by cause.",
                    {"extension": self._id, "cause": cause},
                )
                for cause, number in self._refused.items()
            ),
        ]

    def _refusal(self, cause: str, text: str) -> Unauthenticated:
        self._refused[cause] += 1
        return Unauthenticated(text)

    def _form(self) -> str:
        return f" after {self._scheme}" if self._scheme else ""

    async def _look(self) -> None:
        change = await self._kept.change()
        if change != self._change:
            self._tokens = await self._kept.read()
            self._change = change
            self._noted = {token.id: token.used_at or 0.0 for token in self._tokens.values()}
            _log.info("ingest_tokens_read", path=self._path, tokens=len(self._tokens))
            self._tell_accounts()

    async def _look_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            try:
                await self._look()
                self._troubled = False
            except Unavailable as error:
                if not self._troubled:  # said once; the tokens last read stay in force
                    _log.warning("ingest_tokens_not_readable", path=self._path, error=str(error))
                self._troubled = True

    async def _note_regularly(self) -> None:
        while True:
            await asyncio.sleep(_NOTE_USED)
            with contextlib.suppress(Unavailable):  # it comes again
                await self._note()

    async def _note(self) -> None:
        """Write down what was used in an hour of which that is not known yet: seldom more than once an hour each."""
        new: dict[float, list[str]] = {}
        for token_id, hour in list(self._used.items()):
            if hour > self._noted.get(token_id, 0.0):
                new.setdefault(hour, []).append(token_id)
        for hour, ids in new.items():
            await self._kept.note_used(ids, hour)
            self._noted.update(dict.fromkeys(ids, hour))

    def _tell_accounts(self) -> None:
        now = self._now()
        for book, tell, told in self._following:
            valid = {
                one.account
                for one in self._tokens.values()
                if one.book == book and one.account not in told and one.state(now) is TokenState.VALID
            }
            for account in sorted(valid):
                told.add(account)
                tell(account)


FACTORY = Factory(
    kind=Kind.EXTENSION,
    name="ingesttokenauth",
    config=IngestTokenAuthConfig,
    build=IngestTokenAuth,
    serves="authenticator",
    references=("storage",),
)
