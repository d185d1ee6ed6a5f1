"""Checks of accounts: who may do what with which key, what tasks cost, and the limits on their rate and on credits."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from seedbed_schemas import job_api

from seedbed_contract import tasks
from seedbed_contract.cases import accepted, refused, wrong_keys
from seedbed_contract.http import bearer
from seedbed_contract.rules.envelope import Defect, refusal_defects
from seedbed_contract.rules.task_record import STATES

if TYPE_CHECKING:
    from seedbed_contract.http import Exchange
    from seedbed_contract.session import Session


_WITHOUT_KEY: Final = ("no key", "an empty header", "the scheme alone", "the scheme twice")
_SEPARATED_TASKS: Final = 3
_TIME_SHARE: Final = 0.1
_UNKNOWN_KEY: Final = "seedbed-check-no-such-key"

_CENT: Final = Decimal("0.01")
_ABOVE_THE_RATE: Final = 5
_LONGEST_WAIT: Final = 10
"""Seconds for which the rate limit may hold up a run until the balance is used up: one period of the rate."""
_WINDOW_MARGIN: Final = 1.2
_POLL_PAUSE: Final = 0.1
_UNKNOWN_TASK_ID: Final = "seedbed-check-no-task"
_MOST_TASKS: Final = 60
"""The most tasks that are created to use up a balance."""


def check_wrong_keys(session: Session) -> None:
    """Request a task with every kind of wrong key."""
    request = accepted(session.builder.contract)[0].request
    # A changed key must not be the key of another account by chance.
    other = bearer(session.builder.contract, session.target.second_key)
    keys_of_target = wrong_keys(session.target.key, contract=session.builder.contract)
    wrong = [key for key in keys_of_target if key.expected == "refuse" and key.headers != other]
    keys = session.fit_in_time(wrong, _TIME_SHARE)
    requests = [session.builder.with_authorization(key.headers).create(request) for key in keys]
    # On a limited budget, fewer requests may be sent than there are keys.
    for key, exchange in zip(keys, session.send_invalid(requests), strict=False):
        _check_refusal(session, exchange, key.name, "a call", also=key.name)


def check_every_operation(session: Session) -> None:
    """Call every operation that the target supports without a key and with a wrong one."""
    for name, headers in (("no key", ()), ("a wrong key", bearer(session.builder.contract, _UNKNOWN_KEY))):
        builder = session.builder.with_authorization(headers)
        optional = {
            "credit": builder.credit(),
            "models": builder.models(),
            "modelSchema": builder.model_schema(builder.contract.model),
            "downloadUrl": builder.download_url("http://127.0.0.1/"),
        }
        record = builder.record(session.tasks[0].task_id if session.tasks else _UNKNOWN_KEY)
        for request in (record, *(optional[each] for each in optional if each in session.capabilities)):
            _check_refusal(session, session.send(request), name, request.operation)


def check_account_separation(session: Session) -> None:
    """Fetch tasks of the first account from another one: with the second key, or in a space of the mock server."""
    other = session.with_fresh_account().builder
    if session.target.second_key:
        other = session.builder.with_key(session.target.second_key)
        known = session.send(other.credit() if "credit" in session.capabilities else other.record(_UNKNOWN_KEY))
        if known.code in session.expected.codes("key_refused"):
            session.mark_unchecked("the target refuses the second key; check --second-key")
            return
    elif other is session.builder:
        session.mark_unchecked("this check needs a second key; pass one with --second-key")
        return
    allowed = session.expected.codes("task_unknown", "key_refused")
    for task in session.tasks[:_SEPARATED_TASKS]:
        exchange = session.send(other.record(task.task_id))
        session.check_refusal(exchange, allowed, "authorisation/own-tasks", "a request for the task of another account")
        session.exercise("authorisation/own-tasks")


def _check_refusal(session: Session, exchange: Exchange, key_name: str, call: str, also: str = "") -> None:
    clause = "authorisation/scheme" if "scheme" in key_name else "authorisation/wrong"
    if key_name in _WITHOUT_KEY:
        clause = "authorisation/missing"
    what = f"{call} with {key_name if key_name in _WITHOUT_KEY else 'a wrong key'}"
    refused = session.expected.codes("key_refused")
    # These codes show that the service looked at the request, so it accepted the key.
    later = ("request_invalid", "task_unknown", "task_id_missing", "url_wrong", "schema_unknown")
    session.check_refusal(exchange, refused, clause, what, also, let_in=session.expected.codes(*later) - refused)


def check_refusals_are_free(session: Session) -> None:
    """Compare the balance after many refused requests with the balance before them.

    If it is lower, repeat one invalid request for each clause, with the balance after each, to find one that costs
    credits.
    """
    budget = session.budget
    if budget.first_balance is None or not session.is_exclusive or session.tasks:
        session.mark_unchecked(_why_balance_is_unchecked(session))
        return
    balance = session.fetch_balance()
    session.exercise("credits/refused")
    if balance is None or budget.first_balance - balance <= budget.price * budget.wrongly_created:
        return
    first_of_clause = {case.clause: case for case in reversed(refused(session.builder.contract))}
    defect = Defect("credits/refused", "a refused request costs credits")
    before = session.fetch_balance()
    for case in first_of_clause.values():
        exchange = session.send(session.builder.create(case.payload))
        after = session.fetch_balance()
        if before is not None and after is not None and after < before and exchange.code != session.expected.success:
            session.report([defect], exchange, case.name)
            return
        before = after
    # No single request shows it; the balance itself is the evidence.
    if budget.balance_exchange:
        session.report([defect], budget.balance_exchange)


def check_prices(session: Session) -> None:
    """Compare the charged credits with the price of the tasks that succeeded, and of those that still may."""
    budget = session.budget
    balance, first, shown_by = session.fetch_balance(), budget.first_balance, budget.balance_exchange
    if first is None or balance is None or shown_by is None or not (session.is_exclusive and budget.is_free):
        session.mark_unchecked(_why_balance_is_unchecked(session))
        return
    ended = [task for task in session.tasks if task.has_ended]
    succeeded = sum(task.state == STATES.success for task in ended)
    failed = sum(task.state == STATES.failure for task in ended)
    session.exercise("credits/price", *(("credits/failed",) if failed else ()))
    # Tasks that are still running may be charged already or not, so there is a range of right balances.
    charged, most = first - balance, budget.price * (budget.created + budget.wrongly_created - failed)
    # A service may round the balance to whole credits.
    tolerance = Decimal(1) if balance == int(balance) and first == int(first) else _CENT
    if charged <= budget.price * succeeded - tolerance:
        title = f"tasks that succeeded cost less than {budget.price} credits each"
        session.report([Defect("credits/price", title)], shown_by)
    elif charged >= most + tolerance:
        excess = charged - most
        defect = Defect("credits/price", f"tasks cost more than {budget.price} credits each")
        if excess <= budget.price * failed and not excess % budget.price:
            defect = Defect("credits/failed", "a task that failed is charged")
        session.report([defect], shown_by)
    check_consumed_credits(session)


def check_consumed_credits(session: Session) -> None:
    """Compare ``creditsConsumed`` with the price, for the services whose records have it."""
    for task in (task for task in session.tasks if task.has_ended):
        consumed = task.record.get("creditsConsumed")
        if isinstance(consumed, bool) or not isinstance(consumed, int | float):
            continue
        clause, price = "credits/price", session.budget.price
        if task.state == STATES.failure:
            clause, price = "credits/failed", Decimal(0)
        if Decimal(str(consumed)) != price:
            title = f"creditsConsumed of a task with the state {task.state} is {consumed} and not {price}"
            session.report([Defect(clause, title)], task.polls[-1][1])


def _why_balance_is_unchecked(session: Session) -> str:
    if session.budget.first_balance is None:
        return "the target does not support the operation credit, which returns the balance"
    if session.budget.is_free and session.tasks:
        return "tasks were created before this check"
    if not session.is_exclusive:
        return "others use the account at the same time"
    return "the target is not local, so others may use the same balance"


def check_poll_rate(session: Session) -> None:
    """Fetch records more often than the rate allows. A service may allow more than documented, but not less."""
    allowed, seconds = job_api().poll_rate
    if not session.target.is_local:
        session.mark_unchecked("queries to a remote target are sent at the documented rate")
        return
    builder, limited_codes = session.builder, session.expected.codes("rate_exceeded")
    while session.polls_since(time.monotonic() - seconds * _WINDOW_MARGIN):
        session.pause(_POLL_PAUSE)
    count = allowed + _ABOVE_THE_RATE
    with ThreadPoolExecutor(count) as pool:
        exchanges = list(pool.map(lambda _: session.send_unchecked(builder.record(_UNKNOWN_TASK_ID)), range(count)))
    limited = [exchange for exchange in exchanges if exchange.code in limited_codes]
    session.exercise("recordInfo/rate")
    if count - len(limited) < allowed:
        title = f"fewer than {allowed} queries in {seconds} seconds are allowed"
        session.report([Defect("recordInfo/rate", title)], limited[0])
    if limited and session.target.second_key:
        exchange = session.send_unchecked(builder.with_key(session.target.second_key).record(_UNKNOWN_TASK_ID))
        if exchange.code in limited_codes:
            title = "the queries of one account count for the rate limit of another"
            session.report([Defect("recordInfo/rate", title)], exchange)


def check_rate_limit(session: Session) -> None:
    """Create more tasks at once than the rate allows. A service may allow more than documented, but not fewer."""
    limit, seconds = job_api().rate
    if not session.budget.is_free:
        session.mark_unchecked("this check would cost as many tasks as the rate allows")
        return
    fresh = session.with_fresh_account()
    if fresh is not session and fresh.budget.remaining_tasks < limit:
        _top_up(fresh, fresh.budget.price * (limit + _ABOVE_THE_RATE))
    if fresh.budget.remaining_tasks < limit:
        session.mark_unchecked("the balance does not cover as many tasks as the rate allows")
        return
    allowed = max(limit - fresh.creation_calls.count_since(time.monotonic() - seconds * _WINDOW_MARGIN), 0)
    # One thread for each task, so that all of them arrive well within the period of the rate.
    with ThreadPoolExecutor(allowed + _ABOVE_THE_RATE) as pool:
        exchanges = list(pool.map(lambda _: _create(fresh, wait=False), range(allowed + _ABOVE_THE_RATE)))
    created = sum(exchange.code == session.expected.success for exchange in exchanges)
    limited = [exchange for exchange in exchanges if exchange.code in session.expected.codes("rate_exceeded")]
    session.is_rate_limited = session.is_rate_limited or bool(limited)
    session.exercise("createTask/rate")
    if limited and created < allowed and not fresh.budget.is_exhausted:
        title = f"fewer than {limit} new tasks in {seconds} seconds are allowed"
        session.report([Defect("createTask/rate", title)], limited[0])
    if limited and session.target.second_key:
        request = accepted(session.builder.contract)[0].request
        other = fresh.builder.with_key(session.target.second_key)
        exchange = session.send_unchecked(other.create(request), once=True)
        if exchange.code in session.expected.codes("rate_exceeded"):
            title = "the tasks of one account count for the rate limit of another"
            session.report([Defect("createTask/rate", title)], exchange)


def _top_up(session: Session, amount: Decimal) -> None:
    """Add credits to the account of a session by the control API of the mock server, if that allows it."""
    listed = session.send(session.builder.control("GET", "accounts"), strict=False)
    content = listed.response.json if listed.response else None
    for account in content.get("accounts", ()) if isinstance(content, dict) else ():
        body = {"credits": float(amount)}
        session.send(session.builder.control("POST", f"accounts/{account['account']}/top-up", body), strict=False)
    session.fetch_balance()


def check_exhausted_balance(session: Session) -> None:
    """Use up the balance, then request one more task."""
    if not session.budget.is_free:
        session.mark_unchecked("this check would cost the whole balance")
        return
    if session.fetch_balance() is None:
        session.mark_unchecked("the target does not support the operation credit, so its balance is unknown")
        return
    remaining = session.budget.remaining_tasks
    if remaining > _MOST_TASKS:
        session.mark_unchecked("the balance is too large to be used up; pass the key of an account with a small one")
        return
    calls, seconds = job_api().rate
    # The check of the rate limit, which comes before this one, has used up the current period.
    wait = -(-remaining // calls) * seconds if session.is_rate_limited else 0
    if wait > _LONGEST_WAIT:
        session.mark_unchecked(
            f"the rate limit lets the balance be used up in {wait} seconds only; "
            "pass the key of an account with a small balance"
        )
        return
    while (balance := session.fetch_balance()) is not None and balance >= session.budget.price:
        if _create(session, wait=True).code != session.expected.success:
            session.mark_unchecked("the target refused a task that the balance covers")
            return
    exchange = _create(session, wait=False)
    session.exercise("credits/enough")
    allowed = session.expected.codes("credits_insufficient", "rate_exceeded")
    what = "a task that the balance does not cover"
    session.report(refusal_defects(exchange, allowed, "credits/enough", what), exchange)


def _create(session: Session, *, wait: bool) -> Exchange:
    """Create one of many tasks, if needed after waiting for the rate limit."""
    request = accepted(session.builder.contract)[0].request
    session.budget.reserve()
    send = session.send if wait else session.send_unchecked
    exchange = send(session.builder.create(request), once=True)
    session.check_form(exchange)
    tasks.track(session, exchange, request, "one of many", is_followed=False)
    return exchange
