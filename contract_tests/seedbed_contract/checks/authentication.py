"""Nothing is answered without a good key, and no key shows what belongs to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from seedbed_contract.cases import accepted, wrong_keys
from seedbed_contract.http import bearer

if TYPE_CHECKING:
    from seedbed_contract.http import RequestBuilder, TargetRequest
    from seedbed_contract.session import Session


_MISSING: Final = ("no key", "an empty header", "the scheme alone", "the scheme twice")
_FEW: Final = 3
_LITTLE_OF_THE_TIME: Final = 0.1
_STRANGER: Final = "seedbed-check-no-such-key"


def refuses_wrong_keys(session: Session) -> None:
    """Ask for a task with every kind of wrong key."""
    request = accepted(session.builder.contract)[0].request
    other = bearer(session.builder.contract, session.target.second_key)
    wrong = [key for key in wrong_keys(session.target.key) if key.expected == "refuse" and key.headers != other]
    keys = session.fit_in_time(wrong, _LITTLE_OF_THE_TIME)
    asks = [session.builder.with_authorization(key.headers).create(request) for key in keys]
    for key, exchange in zip(keys, session.send_invalid(asks), strict=False):
        clause = _clause(key.name)
        what = f"a call with {key.name if key.name in _MISSING else 'a wrong key'}"
        session.check_refusal(exchange, _refused(session), clause, what, key.name, let_in=_let_in(session))


def guards_every_operation(session: Session) -> None:
    """Ask every operation that the target has without a key and with a wrong one."""
    for name, headers in (("no key", ()), ("a wrong key", bearer(session.builder.contract, _STRANGER))):
        asks = session.builder.with_authorization(headers)
        for ask in _every_operation(session, asks):
            exchange = session.send(ask)
            what = f"{ask.operation} with {name}"
            session.check_refusal(exchange, _refused(session), _clause(name), what, let_in=_let_in(session))


def keeps_accounts_apart(session: Session) -> None:
    """Look with a second key at tasks that the first key made."""
    if not session.target.second_key:
        session.mark_unchecked("no second key is known: give one with --second-key")
        return
    other = session.builder.with_key(session.target.second_key)
    known = session.send(other.credit()) if "credit" in session.capabilities else session.send(other.record(_STRANGER))
    if known.code in session.expected.codes("key_refused"):
        session.mark_unchecked("the second key is refused: check --second-key")
        return
    for order in session.tasks[:_FEW]:
        exchange = session.send(other.record(order.task_id))
        allowed = session.expected.codes("task_unknown") | session.expected.codes("key_refused")
        what = "a look at the task of another account"
        session.check_refusal(exchange, allowed, "authorisation/own-tasks", what)
        session.exercise("authorisation/own-tasks")


def _every_operation(session: Session, asks: RequestBuilder) -> list[TargetRequest]:
    task = session.tasks[0].task_id if session.tasks else _STRANGER
    every = {
        "": asks.record(task),
        "credit": asks.credit(),
        "models": asks.models(),
        "modelSchema": asks.model_schema(asks.contract.model),
        "downloadUrl": asks.download_url("http://127.0.0.1/"),
    }
    return [ask for name, ask in every.items() if not name or name in session.capabilities]


def _refused(session: Session) -> frozenset[int]:
    return session.expected.codes("key_refused")


def _let_in(session: Session) -> frozenset[int]:
    """Return the codes of calls that were let in and looked at."""
    looked_at = ("request_invalid", "task_unknown", "task_id_missing", "url_wrong", "schema_unknown")
    return session.expected.codes(*looked_at) - _refused(session)


def _clause(name: str) -> str:
    if name in _MISSING:
        return "authorisation/missing"
    return "authorisation/scheme" if "scheme" in name else "authorisation/wrong"
