"""Checks that every operation needs a valid key, and that a key shows only the tasks of its account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from seedbed_contract.cases import accepted, wrong_keys
from seedbed_contract.http import bearer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.http import Exchange, RequestBuilder, TargetRequest
    from seedbed_contract.session import Session


_WITHOUT_KEY: Final = ("no key", "an empty header", "the scheme alone", "the scheme twice")
_TASKS: Final = 3
_TIME_SHARE: Final = 0.1
_UNKNOWN_KEY: Final = "seedbed-check-no-such-key"


def check_wrong_keys(session: Session) -> None:
    """Request a task with every kind of wrong key."""
    request = accepted(session.builder.contract)[0].request
    # A changed key must not be the key of another account by chance.
    other = bearer(session.builder.contract, session.target.second_key)
    wrong = [key for key in wrong_keys(session.target.key) if key.expected == "refuse" and key.headers != other]
    keys = session.fit_in_time(wrong, _TIME_SHARE)
    requests = [session.builder.with_authorization(key.headers).create(request) for key in keys]
    # On a limited budget, fewer requests may be sent than there are keys.
    for key, exchange in zip(keys, session.send_invalid(requests), strict=False):
        _check_refusal(session, exchange, key.name, "a call", also=key.name)


def check_every_operation(session: Session) -> None:
    """Call every operation that the target supports without a key and with a wrong one."""
    for name, headers in (("no key", ()), ("a wrong key", bearer(session.builder.contract, _UNKNOWN_KEY))):
        for request in _supported_operations(session, session.builder.with_authorization(headers)):
            _check_refusal(session, session.send(request), name, request.operation)


def check_account_separation(session: Session) -> None:
    """Fetch tasks of the first account with the second key."""
    if not session.target.second_key:
        session.mark_unchecked("this check needs a second key; pass one with --second-key")
        return
    other = session.builder.with_key(session.target.second_key)
    known = session.send(other.credit() if "credit" in session.capabilities else other.record(_UNKNOWN_KEY))
    if known.code in session.expected.codes("key_refused"):
        session.mark_unchecked("the target refuses the second key; check --second-key")
        return
    allowed = session.expected.codes("task_unknown", "key_refused")
    for task in session.tasks[:_TASKS]:
        exchange = session.send(other.record(task.task_id))
        session.check_refusal(exchange, allowed, "authorisation/own-tasks", "a request for the task of another account")
        session.exercise("authorisation/own-tasks")


def _supported_operations(session: Session, builder: RequestBuilder) -> Iterator[TargetRequest]:
    yield builder.record(session.tasks[0].task_id if session.tasks else _UNKNOWN_KEY)
    optional = {
        "credit": builder.credit(),
        "models": builder.models(),
        "modelSchema": builder.model_schema(builder.contract.model),
        "downloadUrl": builder.download_url("http://127.0.0.1/"),
    }
    yield from (request for name, request in optional.items() if name in session.capabilities)


def _check_refusal(session: Session, exchange: Exchange, key_name: str, call: str, also: str = "") -> None:
    clause = "authorisation/scheme" if "scheme" in key_name else "authorisation/wrong"
    if key_name in _WITHOUT_KEY:
        clause = "authorisation/missing"
    what = f"{call} with {key_name if key_name in _WITHOUT_KEY else 'a wrong key'}"
    refused = session.expected.codes("key_refused")
    # These codes show that the service looked at the request, so it accepted the key.
    later = ("request_invalid", "task_unknown", "task_id_missing", "url_wrong", "schema_unknown")
    session.check_refusal(exchange, refused, clause, what, also, let_in=session.expected.codes(*later) - refused)
