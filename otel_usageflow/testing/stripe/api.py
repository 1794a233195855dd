"""The way of a call through Stripe: fault, key, rate, idempotency, parameters, lock, execution, answer."""

import asyncio
from collections.abc import Callable, Iterable

from otel_usageflow.testing.stripe import stream
from otel_usageflow.testing.stripe.account import Account, Shared
from otel_usageflow.testing.stripe.connections import Connection
from otel_usageflow.testing.stripe.failures import (
    StripeFailure,
    as_v2,
    invalid,
    lock_timeout,
    no_key,
    no_version,
    rate_limited,
    server_error,
    session_expired,
    unavailable,
    unknown_path,
)
from otel_usageflow.testing.stripe.faults import AFTER_COMMIT, BY_PROXY, Fault, Faults, Rule
from otel_usageflow.testing.stripe.idempotency import mark_of
from otel_usageflow.testing.stripe.keyring import Keyring, key_of
from otel_usageflow.testing.stripe.message import Answer, Dropped, Request
from otel_usageflow.testing.stripe.not_stripe import by_proxy, spoiled
from otel_usageflow.testing.stripe.oauth import OAuth
from otel_usageflow.testing.stripe.oauth_pages import PATHS as OAUTH_PATHS
from otel_usageflow.testing.stripe.oauth_pages import OAuthPages
from otel_usageflow.testing.stripe.params import Tree, check, tree_of
from otel_usageflow.testing.stripe.permissions import Permissions
from otel_usageflow.testing.stripe.routes import IDEMPOTENCY_KEY, Endpoint, Job, find_endpoint

AccountKey = tuple[str | None, bool]


class Api:
    """A whole Stripe without its sockets.

    Args:
        keys: the API keys that are known; `_live_` in a key means live mode.
        permissions: what each of them may do.
        client_ids: of the platform, for OAuth; `_live_` in one means live mode.
        changed: called whenever something was committed.
    """

    def __init__(
        self,
        shared: Shared,
        keys: Iterable[str],
        permissions: Permissions,
        client_ids: Iterable[str],
        changed: Callable[[], None],
    ) -> None:
        self.shared, self.faults = shared, Faults()
        self.connections = shared.connections
        self.connections.watchers.append(self._tell)
        self.oauth = OAuth(shared.clock, self.connections, client_ids)
        self.keyring = Keyring(keys, permissions, self.connections, self.oauth)
        self.keys = self.keyring.keys
        """Those that are known by now; a test may add some, and take some away."""
        self.pages = OAuthPages(self.oauth, shared.settings, self.keys, changed)
        self.accounts: dict[AccountKey, Account] = {}
        self._changed = changed
        self._stopping = asyncio.Event()

    def account(self, name: str | None, livemode: bool) -> Account:
        """The state of an account in one mode; made when it is first asked for."""
        key = (name, livemode)
        if key not in self.accounts:
            self.accounts[key] = Account(self.shared, name, livemode)
        return self.accounts[key]

    def stop(self) -> None:
        """Break the calls that hang."""
        self._stopping.set()

    async def stopped(self) -> None:
        """Wait for `stop`."""
        await self._stopping.wait()

    async def answer(self, request: Request) -> Answer:
        """Answer one call.

        Raises:
            Dropped: the connection is to be broken.
        """
        if self.faults.outage:
            raise Dropped
        rule = self.faults.pick(request.method, request.path)
        if rule is not None and rule.fault in BY_PROXY:
            return by_proxy(rule.fault)
        try:
            if rule is not None:
                await self._fail_before(rule)
            answer = await self._answer(request, rule)
        except StripeFailure as failure:
            answer = as_v2(failure.answer) if is_v2(request) else failure.answer
        if rule is not None and rule.fault in AFTER_COMMIT:
            return await self._spoil(answer, rule)
        return answer

    async def _answer(self, request: Request, rule: Rule | None) -> Answer:
        if request.path in OAUTH_PATHS:
            return await self._answer_oauth(request, rule)
        account = self._authenticate(request)
        if is_v2(request) and "Stripe-Version" not in request.headers:
            raise no_version()
        found = find_endpoint(request.method, request.path)
        if found is None:
            raise unknown_path(request.method, request.path)
        endpoint, target = found
        account.limiter.admit(endpoint.limit, id(endpoint))
        if request.method == "GET":
            account.allocation.spend()
            account.reads[request.path.replace(f"/{target}", "/*", 1) if target else request.path] += 1
        try:
            request.decode()
        except ValueError:
            raise invalid("The parameters cannot be read.") from None
        key = request.headers.get(IDEMPOTENCY_KEY) if request.method == "POST" else None
        if key is None:
            return await self._execute(account, endpoint, target, request, rule)
        settings, v2 = self.shared.settings, is_v2(request)
        known = account.idempotency_v2 if v2 else account.idempotency
        memory = settings.idempotency_memory_v2 if v2 else settings.idempotency_memory
        stored = known.begin(key, mark_of(request), self.shared.clock.now(), memory)
        if stored is not None:
            return stored
        try:
            answer = await self._execute(account, endpoint, target, request, rule)
        except StripeFailure as failure:
            if failure.stored and not v2:  # v2 executes a call again that has failed
                known.finish(key, failure.answer)
            else:
                known.release(key)
            raise
        except BaseException:
            known.release(key)
            raise
        known.finish(key, answer)
        return answer

    async def _answer_oauth(self, request: Request, rule: Rule | None) -> Answer:
        fault = None if rule is None else rule.fault
        if rule is not None and fault is Fault.SLOW_BEFORE:
            await self._pause(rule.seconds)
        if fault is Fault.ERROR_STORED:
            raise server_error(stored=False)  # nothing is stored here: keys of idempotency mean nothing to OAuth
        answer = self.pages.answer(request, key_of(request.headers))
        if fault is Fault.ERROR_AFTER:
            raise server_error(stored=False)
        return answer

    async def _execute(
        self, account: Account, endpoint: Endpoint, target: str, request: Request, rule: Rule | None
    ) -> Answer:
        job = Job(account, request, target, check(endpoint.params, _tree(request)))
        lock = None if endpoint.lock is None else endpoint.lock(job)
        with account.hold(lock, request):
            if lock is not None:
                await asyncio.sleep(self.shared.settings.latency)
            if rule is not None and rule.fault is Fault.SLOW_BEFORE:
                await self._pause(rule.seconds)
            if rule is not None and rule.fault is Fault.ERROR_STORED:
                raise server_error(stored=True)
            body = endpoint.run(job)
        self._changed()
        if rule is not None and rule.fault is Fault.ERROR_AFTER:
            raise server_error(stored=True)
        return Answer(200, body)

    def _authenticate(self, request: Request) -> Account:
        if request.path == stream.PATH:  # it takes its own tokens only, and they say which account
            key = key_of(request.headers)
            if not key:
                raise no_key()
            account = self.shared.sessions.account_of(key)
            if account.name is not None and not self.connections.lets_in(account.name, account.livemode):
                raise session_expired()  # what Stripe says is documented nowhere
            return account
        return self.account(*self.keyring.authenticate(request))

    def _tell(self, connection: Connection, *, begun: bool) -> None:
        """A connection has begun or ended: the platform hears of it, and tokens are worth nothing any more."""
        if not begun:
            self.oauth.revoke(connection)
        application = {"id": connection.client_id, "object": "application", "name": "Stripe double"}
        kind = f"account.application.{'authorized' if begun else 'deauthorized'}"
        self.account(None, connection.livemode).log.add(kind, application, account=connection.account)

    async def _fail_before(self, rule: Rule) -> None:
        match rule.fault:
            case Fault.RESET_BEFORE:
                raise Dropped
            case Fault.HANG:
                await self._stopping.wait()
                raise Dropped
            case Fault.ERROR_BEFORE:
                raise server_error(stored=False)
            case Fault.UNAVAILABLE:
                raise unavailable()
            case Fault.RATE_LIMITED:
                raise rate_limited("global-rate")
            case Fault.LOCK_TIMEOUT:
                raise lock_timeout()
            case _:
                return

    async def _spoil(self, answer: Answer, rule: Rule) -> Answer:
        if rule.fault is Fault.RESET_AFTER:
            raise Dropped
        if rule.fault is Fault.HANG_AFTER:
            await self._stopping.wait()
            raise Dropped
        if rule.fault is Fault.SLOW_AFTER:
            await self._pause(rule.seconds)
            return answer
        return spoiled(answer, rule.fault)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
        raise Dropped


def _tree(request: Request) -> Tree:
    return tree_of(request.pairs) if request.json is None else request.json


def is_v2(request: Request) -> bool:
    """Whether the call is one of the newer API, whose errors have another shape."""
    return request.path.startswith("/v2/")
