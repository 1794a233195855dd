"""Other keys and accounts, where they are given: what a restricted key may do, and a connected account."""

from stage import Stage
from steps_stream import SESSION

_PROBES = {
    "GET /v1/billing/meters": ("get", "/v1/billing/meters", {"limit": 1}),
    "GET /v1/customers": ("get", "/v1/customers", {"limit": 1}),
    "GET /v1/customers/search": ("get", "/v1/customers/search", {"query": 'metadata["uf_live_account"]:"x"'}),
    "GET /v1/events": ("get", "/v1/events", {"limit": 1}),
    "GET /v2/core/events": ("get", "/v2/core/events", {"limit": 1}),
    "POST /v2/billing/meter_event_session": ("post", SESSION, {}),
    "POST /v1/billing/meter_events of no meter": (
        "post",
        "/v1/billing/meter_events",
        {"event_name": "uf_live_no_such_meter", "payload": {"stripe_customer_id": "cus_none", "value": "1"}},
    ),
    "POST /v1/billing/meter_event_adjustments of nothing": (
        "post",
        "/v1/billing/meter_event_adjustments",
        {"event_name": "uf_live_no_such_meter", "type": "cancel", "cancel": {"identifier": "uf_live_nothing"}},
    ),
}


async def another_key(on: Stage) -> None:
    """Each call with STRIPE_TEST_RESTRICTED_KEY: a 403 names the permission that it wants."""
    key = on.settings.restricted_key
    if not key:
        on.say("skipped: STRIPE_TEST_RESTRICTED_KEY is not set")
        return
    for name, (method, path, params) in _PROBES.items():
        on.settles(
            f"restricted key, {name}", (await on.call(method, path, params, api_key=key)).short.replace(key, "***")
        )
    _, meter = await on.meter("restricted")
    path = f"/v1/billing/meters/{meter}/event_summaries"
    bounds = {"customer": await on.customer("restricted"), "start_time": 1_700_000_040, "end_time": 1_700_000_100}
    answer = await on.call("get", path, bounds, api_key=key)
    on.settles("restricted key, GET .../event_summaries", answer.short.replace(key, "***"))


async def connected_account(on: Stage) -> None:
    """A meter event for STRIPE_TEST_CONNECTED_ACCOUNT, and one for an account that has nothing to do with us."""
    gone = await on.call("get", "/v1/billing/meters", {"limit": 1}, account="acct_ufLiveNobody")
    on.settles("an account that is not connected, v1", gone.short)
    account = on.settings.connected_account
    if not account:
        on.say("skipped: STRIPE_TEST_CONNECTED_ACCOUNT is not set")
        return
    name, meter = await on.meter("connected", account=account)
    customer = await on.customer("connected", account=account)
    answer = await on.event(name, customer, "2", account=account)
    on.check(answer.status == 200, "a meter event for a connected account is taken", answer.short)

    async def counted() -> bool:
        return await on.total(meter, customer, account=account) == 2

    on.check(await on.until(counted), "and counted there", await on.total(meter, customer, account=account))
    on.settles(
        "stream: a session for a connected account", (await on.call("post", SESSION, {}, account=account)).short
    )
    events = await on.call("get", "/v2/core/events", {"limit": 1}, account=account)
    on.settles("/v2/core/events for a connected account, by Stripe-Context", events.short)
