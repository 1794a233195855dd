"""`otel-usageflow connect token`: tokens that let companies in, and decide where their spans are billed."""

import argparse
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from otel_usageflow.cli.arguments import add_config_arguments
from otel_usageflow.cli.moments import parse_length, written
from otel_usageflow.cli.output import console, shown, table, write_json
from otel_usageflow.cli.people import actor
from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.cli.books import Book
    from otel_usageflow.ledger.ingest_tokens import IngestToken

OWN = "own"
"""Stands for the account that the exporter bills in by itself."""
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9]{1,60}")
_LONGEST_NAME = 200
_DAYS = re.compile(r"(\d{1,5})d")
_FORMATS = ("table", "json")
_EPILOG = """\
examples:
  otel-usageflow connect token create --config usageflow.yaml acct_1MYSqkFCE4v1Qd7T --name "Beta's collector"
  otel-usageflow connect token create --config usageflow.yaml acct_1MYSqkFCE4v1Qd7T --expires 90d
  otel-usageflow connect token list   --config usageflow.yaml
  otel-usageflow connect token revoke --config usageflow.yaml it_5f0c9a1be2d4

all of them work while the service runs, which takes up a change within a second; receivers ask for tokens where
their auth::authenticator names an extension ingesttokenauth
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its subcommands."""
    parser = subparsers.add_parser(
        "token",
        help="make, list or revoke tokens that decide in which account spans are billed",
        description="Make, list or revoke ingest tokens. The token that a client sends decides in which account its "
        "spans are billed; nothing in the spans can decide otherwise.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_create(commands)
    listing = commands.add_parser("list", help="the tokens, those that let nobody in too")
    _add_choice(listing)
    listing.add_argument("--account", metavar="ACCOUNT", help=f"only those of this account, or of {OWN!r}")
    listing.add_argument("--format", choices=_FORMATS, default="table", help="default: table")
    listing.set_defaults(run=list_tokens)
    revoking = commands.add_parser("revoke", help="let nobody in with a token any more; what came with it is billed")
    _add_choice(revoking)
    revoking.add_argument("token", metavar="ID", help="as list shows it, not the token itself")
    revoking.add_argument("--because", metavar="TEXT", default="", help="why, for the audit log")
    revoking.set_defaults(run=revoke)


def _add_create(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "create",
        help="make a token; it is shown this once",
        description="Make a token for an account. It is printed once; what is kept is its SHA-256.",
    )
    _add_choice(parser)
    parser.add_argument(
        "account", metavar="ACCOUNT", help=f"the connected account, or {OWN!r}: the one that the exporter bills in"
    )
    parser.add_argument("--name", metavar="TEXT", default="", help="what it is for")
    parser.add_argument(
        "--expires", metavar="WHEN", help="after how long, as 90d, or when, as 2027-01-31; without it, never"
    )
    parser.add_argument(
        "--format", choices=_FORMATS, default="table", help="table prints the token alone; json tells all of it"
    )
    parser.set_defaults(run=create)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--exporter", metavar="ID", help="which stripe_meter exporter, where there are several")


def create(arguments: argparse.Namespace) -> int:
    """Make a token, and print it."""
    from otel_usageflow.extensions.sqlite_storage.connect.token_desk import TokenDesk
    from otel_usageflow.ledger.ingest_tokens import IngestToken, digest, new_id, new_secret

    book = _book(arguments, need_secrets=True)
    account = _account(arguments.account)
    if account and book.config.account not in (None, account):
        raise UsageError(
            f"{book.exporter} bills in {book.config.account} only (exporters::{book.exporter}::account), so usage of "
            f"{account} would be refused; name that account, or {OWN!r}"
        )
    account = account or book.config.account or ""  # one account has one name, which policies may say too
    if len(arguments.name) > _LONGEST_NAME:
        raise UsageError(f"--name: at most {_LONGEST_NAME} characters")
    now = time.time()
    expires = None if arguments.expires is None else _expiry(arguments.expires, now)
    secret = new_secret()
    token = IngestToken(new_id(), arguments.name.strip(), book.name, account, now, expires)
    TokenDesk(book.directory).create(token, digest(secret.encode()), actor())
    if arguments.format == "json":
        write_json({**_json(token, now), "token": secret})
    else:
        sys.stdout.write(secret + "\n")
    until = "until it is revoked" if expires is None else f"until {written(expires)}"
    _say(
        f"{token.id}: what comes with this token is billed in {account or 'the own account'} by {book.exporter} in "
        f"{book.config.mode} mode, {until}. It is shown this once; clients send it as\n"
        "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20TOKEN"
    )
    for remark in _remarks(arguments, book, account):
        _say(f"note: {remark}")
    return 0


def list_tokens(arguments: argparse.Namespace) -> int:
    """Print the tokens: never a secret, there is none to print."""
    now = time.time()
    tokens = _tokens(arguments)
    if arguments.account is not None:
        account = _account(arguments.account)
        tokens = [token for token in tokens if token.account == account]
    if arguments.format == "json":
        write_json({"tokens": [_json(token, now) for token in tokens]})
        return 0
    if not tokens:
        sys.stdout.write("there is no ingest token; make one with: otel-usageflow connect token create\n")
        return 0
    printed = table("id", "account", "exporter", "mode", "state", "created", "expires", "last used", "name")
    for token in tokens:
        printed.add_row(
            token.id, shown(token.account) or OWN, shown(token.exporter), token.mode, str(token.state(now)),
            written(token.created_at), _when(token.expires_at), _when(token.used_at), shown(token.name),
        )  # fmt: skip
    console().print(printed)
    return 0


def revoke(arguments: argparse.Namespace) -> int:
    """Revoke a token."""
    from otel_usageflow.extensions.sqlite_storage.connect.token_desk import TokenDesk
    from otel_usageflow.ledger.ingest_tokens import PREFIX

    if arguments.token.startswith(PREFIX):
        raise UsageError("this is a token, and stands in the shell's history now; name its id, which list shows")
    holders = [book for book in _books(arguments) if any(one.id == arguments.token for one in _listed(book))]
    if not holders:
        raise UsageError(f"there is no ingest token {arguments.token!r}; connect token list shows which there are")
    was = TokenDesk(holders[0].directory).revoke(arguments.token, actor(), arguments.because, time.time())
    done = "was revoked before" if was.revoked_at is not None else "revoked"
    sys.stdout.write(f"{was.id}: {done}; it lets nobody in. What came with it is billed in {was.account or OWN}\n")
    return 0


def _books(arguments: argparse.Namespace, *, need_secrets: bool = False) -> "list[Book]":
    from otel_usageflow.cli.books import books

    found = books(arguments, need_secrets=need_secrets)
    if arguments.exporter is None:
        return found
    chosen = [book for book in found if book.exporter == arguments.exporter]
    if not chosen:
        names = ", ".join(book.exporter for book in found)
        raise UsageError(f"--exporter: no pipeline has {arguments.exporter!r}; these there are: {names}")
    return chosen


def _book(arguments: argparse.Namespace, *, need_secrets: bool) -> "Book":
    found = _books(arguments, need_secrets=need_secrets)
    if len(found) > 1:
        names = ", ".join(book.exporter for book in found)
        raise UsageError(f"several exporters bill; choose whose account it is with --exporter: {names}")
    return found[0]


def _listed(book: "Book") -> "list[IngestToken]":
    from otel_usageflow.extensions.sqlite_storage.connect.token_desk import TokenDesk

    return TokenDesk(book.directory).listed()


def _tokens(arguments: argparse.Namespace) -> "list[IngestToken]":
    """The tokens of the exporters that are meant, in both modes, and of those that are configured no more."""
    chosen = _books(arguments)
    found = {token.id: token for book in chosen for token in _listed(book)}
    if arguments.exporter is None:
        return list(found.values())
    return [token for token in found.values() if token.exporter == arguments.exporter]


def _account(text: str) -> str:
    if text == OWN:
        return ""
    if not _ACCOUNT.fullmatch(text):
        raise UsageError(
            f"{text!r} is no Stripe account; write acct_..., or {OWN!r} for the one the exporter bills in"
        )
    return text


def _expiry(text: str, now: float) -> float:
    if days := _DAYS.fullmatch(text):
        moment = now + int(days[1]) * 86_400
    else:
        try:
            parsed = datetime.fromisoformat(text)
            moment = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
        except ValueError:
            moment = now + parse_length(text, "--expires")
    if moment <= now:
        raise UsageError(f"--expires: {text!r} is over already; write how long, as 90d, or a date to come")
    return moment


def _remarks(arguments: argparse.Namespace, book: "Book", account: str) -> list[str]:
    """What keeps the token from leading to a bill."""
    from otel_usageflow.cli.arguments import load_config
    from otel_usageflow.component import Kind
    from otel_usageflow.extensions.sqlite_storage.connect.desk import ConnectionDesk

    remarks = []
    config = load_config(arguments, need_secrets=False)
    if not any(config.extensions[id_].factory.name == "ingesttokenauth" for id_ in config.used(Kind.EXTENSION)):
        remarks.append(
            "no extension ingesttokenauth is listed under service::extensions, so that nobody asks for tokens yet"
        )
    if account and book.config.connect is not None:
        connections, _ = ConnectionDesk(book.directory, book.name).all()
        connection = connections.get(account)
        if connection is None or not connection.usable:
            remarks.append(
                f"{account} is not connected; its usage is taken and kept, and sent once it is (connect url)"
            )
    return remarks


def _json(token: "IngestToken", now: float) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "account": token.account or None,
        "exporter": token.exporter,
        "mode": token.mode,
        "state": str(token.state(now)),
        "created_at": written(token.created_at),
        "expires_at": None if token.expires_at is None else written(token.expires_at),
        "revoked_at": None if token.revoked_at is None else written(token.revoked_at),
        "last_used_at": None if token.used_at is None else written(token.used_at),
    }


def _when(moment: float | None) -> str:
    return "never" if moment is None else written(moment)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
