"""Whether there is a service at all, which dialect it speaks, and how it carries its codes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from seedbed_schemas import default_contract, local
from seedbed_schemas.dialect import dialects, documented

from seedbed_contract.cases import refused
from seedbed_contract.expectations import OK, Expectations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect

    from seedbed_contract.asks import Asks
    from seedbed_contract.exchange import Ask, Exchange
    from seedbed_contract.expectations import HttpStatus
    from seedbed_contract.target import Target
    from seedbed_contract.wire import Wire

NOBODY: Final = "seedbed-check-no-such-task"
"""Name of a task that no service has."""
_UNREADABLE: Final = "Nothing that it answers is a JSON object: is this the URL of the service?"


class CannotJudge(Exception):
    """There is nothing that could be judged; the message is one sentence that tells why and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out about a target.

    Attributes:
        expected: What its answers are held against.
        is_fake: Whether it says that it is Seedbed's own fake.
        is_readable: Whether anything that it answers is a JSON object.
        remarks: What was found out, in words.
        exchanges: The questions and answers, each with the clause that it breaks, empty where it breaks none.
    """

    expected: Expectations
    is_fake: bool
    is_readable: bool
    remarks: tuple[str, ...]
    exchanges: tuple[tuple[str, Exchange], ...]


def detect(wire: Wire, asks: Asks, target: Target) -> Found:
    """Ask a few questions that have to be refused, and tell from the answers whom one talks to.

    Raises:
        CannotJudge: Nothing answers, or the key is refused.
    """
    contract = asks.contract
    questions = list(_questions(asks))
    answered = list(_answered(wire, questions))
    refused_key = (
        documented().cases["key_refused"].numbers({**default_contract().codes_by_name, **contract.codes_by_name})
    )
    if all(exchange.code in refused_key for _, exchange in answered):
        raise CannotJudge(f"the key is refused at {wire.base_url}: give a good one with --key, or SEEDBED_API_KEY.")
    is_readable = any(exchange.answer and isinstance(exchange.answer.json, dict) for _, exchange in answered)
    dialect, http_status = _dialect(answered, contract, target), _http_status(answered, target)
    expected = Expectations(contract, dialect, http_status, is_told=target.dialect != "auto")
    is_fake = any(exchange.answer and exchange.answer.header(local.MARK_HEADER) for _, exchange in answered)
    remarks = tuple(_remarks(target, dialect, http_status)) if is_readable else (_UNREADABLE,)
    clauses = (clause for _, clause, _ in questions)
    exchanges = tuple(zip(clauses, (exchange for _, exchange in answered), strict=False))
    return Found(expected, is_fake, is_readable, remarks, exchanges)


def _answered(wire: Wire, questions: Iterable[tuple[str, str, Ask]]) -> Iterator[tuple[str, Exchange]]:
    """Yield the case of each question with its answer, until one made a task: that costs, and tells enough."""
    for case, _, ask in questions:
        exchange = _asked(wire, ask)
        yield case, exchange
        if exchange.task_id:
            return


def _questions(asks: Asks) -> Iterator[tuple[str, str, Ask]]:
    """Yield the case of each question, and the clause that it breaks."""
    yield "task_unknown", "", asks.record(NOBODY)
    yield "key_refused", "", asks.with_authorization(()).record(NOBODY)
    by_case: dict[str, tuple[str, Ask]] = {}
    for case in refused(asks.contract):
        keyword = case.clause.split("/")[1]
        named = {"required": "field_missing", "enum": "option_unknown", "maxLength": "text_too_long"}.get(keyword)
        if named and case.clause.startswith("input"):
            by_case.setdefault(named, (case.clause, asks.create(case.payload)))
    yield from ((named, *question) for named, question in by_case.items())


def _asked(wire: Wire, ask: Ask) -> Exchange:
    exchange = wire.send(ask)
    if exchange.answer is None:
        raise CannotJudge(
            f"nothing answers at {wire.base_url} as a service would ({exchange.problem}). "
            "Start the server, or check the URL."
        )
    return exchange


def _dialect(answered: list[tuple[str, Exchange]], contract: Contract, target: Target) -> Dialect:
    if target.dialect != "auto":
        return dialects()[target.dialect]
    votes = Counter(vote for case, exchange in answered if (vote := _vote(case, exchange, contract)))
    return (
        dialects()[max(votes, key=lambda title: (votes[title], title == documented().title))] if votes else documented()
    )


def _vote(case: str, exchange: Exchange, contract: Contract) -> str:
    """Return the dialect that an answer speaks for, empty where it could be either."""
    if case not in {"field_missing", "option_unknown", "text_too_long"}:
        return ""
    fitting = [title for title, dialect in dialects().items() if _fits(dialect, case, exchange, contract)]
    return fitting[0] if len(fitting) == 1 else ""


def _fits(dialect: Dialect, case: str, exchange: Exchange, contract: Contract) -> bool:
    if exchange.code not in dialect.cases[case].numbers({**default_contract().codes_by_name, **contract.codes_by_name}):
        return False
    if dialect is documented():
        return True
    words = re.sub(r"\\{\w+\\}", ".+", re.escape(dialect.cases[case].message))
    message = exchange.answer.json.get("msg") if exchange.answer and isinstance(exchange.answer.json, dict) else ""
    return re.fullmatch(words, str(message)) is not None


def _http_status(answered: list[tuple[str, Exchange]], target: Target) -> HttpStatus:
    if target.http_status != "auto":
        return target.http_status
    statuses = [(exchange.answer.status, exchange.code) for _, exchange in answered if exchange.answer]
    mirrored = sum(status == code != OK for status, code in statuses)
    enveloped = sum(status == OK != code for status, code in statuses)
    return "mirror" if mirrored > enveloped else "envelope"


def _remarks(target: Target, dialect: Dialect, http_status: HttpStatus) -> Iterator[str]:
    if target.dialect == "auto":
        yield f"It answers in the {dialect.title} dialect."
    if target.http_status == "auto":
        how = {"envelope": "HTTP 200 with the code in the body", "mirror": "the code as HTTP status too"}[http_status]
        yield f"It answers with {how} ({http_status})."
