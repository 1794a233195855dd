"""What can hardly be meant about tokens in the users of one policy."""

from collections.abc import Iterator, Sequence

from otel_usageflow.errors import ConfigProblem
from otel_usageflow.policy.jwt_config import Verify
from otel_usageflow.policy.sources.jwt import Jwt

_LEAST_SECRET = 32


def token_remarks(tokens: Sequence[tuple[str, Jwt]]) -> Iterator[ConfigProblem]:
    """Remarks on the JWT sources of a policy.

    Args:
        tokens: where each stands, as in `policies::0::user::1::jwt`, in order.
    """
    verified = [(place, token.verify, _carrier(token)) for place, token in tokens if isinstance(token.verify, Verify)]
    for index, (place, verify, carrier) in enumerate(verified):
        if verify.secret is not None and len(verify.secret.get_secret_value().strip().encode()) < _LEAST_SECRET:
            yield ConfigProblem(
                f"{place}::verify::secret",
                f"is shorter than {_LEAST_SECRET} bytes, which RFC 7518 asks for at least",
            )
        others = [other for number, (_, other, where) in enumerate(verified) if number != index and where == carrier]
        if (
            verify.secret is None
            and verify.issuer is None
            and any(_place(other) != _place(verify) for other in others)
        ):
            yield ConfigProblem(
                f"{place}::verify",
                "stands beside another way to verify the same token; write issuer, so that tokens of the other one "
                "are passed over at once and not looked for among these keys",
            )


def _carrier(token: Jwt) -> tuple[object, ...]:
    return (None if token.cookie or token.query else token.header, token.cookie, token.query)


def _place(verify: Verify) -> tuple[object, ...]:
    return verify.jwks_url, verify.jwks_file, verify.public_key_file, verify.secret
