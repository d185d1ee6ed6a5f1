"""Where the target can be told to fail: every documented code can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed_schemas import local

from seedbed_contract.answers import refusal_flaws
from seedbed_contract.cases import accepted

if TYPE_CHECKING:
    from seedbed_contract.session import Session


def has_every_code(session: Session) -> None:
    """Ask for a task with each documented code as the fault that it shall meet."""
    if "faults" not in session.offered:
        session.cannot_judge("the target cannot be told to fail", "faults")
        return
    request = accepted(session.asks.contract)[0].request
    for code in (code for code in session.asks.contract.codes if code.number != session.expected.success):
        case = session.expected.dialect.case_of_code(code.name)
        allowed = session.expected.codes(case) if case in session.expected.dialect.cases else {code.number}
        asks = session.asks.with_extra(((local.FAULT_HEADER, str(code.number)),))
        exchange = session.send_plainly(asks.create(request), once=True)
        session.judge_form(exchange)
        session.exercise(f"code/{code.number}")
        flaws = refusal_flaws(exchange, allowed, f"code/{code.number}", f"a call that shall meet {code.number}")
        session.judge(flaws, exchange)
