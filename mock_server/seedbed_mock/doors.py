"""The doors by which a rule may come with a call: a header, the key, and a phrase in the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from seedbed_schemas import local

from seedbed_mock.answers import Refusal
from seedbed_mock.faults.engine import Question, Standing, phrases
from seedbed_mock.faults.words import RuleError

if TYPE_CHECKING:
    from seedbed_mock.faults.engine import Door
    from seedbed_mock.service import Call, Service

KEY_PREFIX = "seedbed-"
"""What a key begins with that names a rule: ``seedbed-402``."""

_HEADER = local.FAULT_HEADER.lower().encode()
_PHRASE = b"[[fault:"


def may_meet_fault(service: Service, call: Call) -> bool:
    """Tell whether there is anything that a call could meet; this is all that most calls cost."""
    if service.faults.standing or service.player or call.key_rule or _HEADER in call.headers:
        return True
    # One byte is found far sooner than several, and most bodies have none of it.
    return call.body is not None and _PHRASE[0] in call.body and _PHRASE in call.body


def meet_fault(service: Service, call: Call) -> None:
    """Find the fault that the call meets: one that came with it, or one in force."""
    if service.player:
        service.player.count_call()
    asked = _asked(call.body)
    prompt = _prompt(service, asked)
    passing: list[Standing] = []
    if (header := call.headers.get(_HEADER)) is not None:
        passing.append(_passing(service, call, _text(header), "header"))
    if call.key_rule:
        passing.append(_passing(service, call, call.key_rule, "key"))
    passing += [_passing(service, call, text, "prompt") for text in phrases(prompt)]
    call.fault = service.faults.met(_question(service, call, asked, prompt), passing)


def _passing(service: Service, call: Call, text: str, door: Door) -> Standing:
    try:
        return service.faults.passing(text, door, call.space.name)
    except RuleError as error:
        raise Refusal("fault_malformed", door=_DOORS[door], problem=str(error)) from error


_DOORS: dict[Door, str] = {"header": f"the header {local.FAULT_HEADER}", "key": "the key", "prompt": "the prompt"}


def _text(header: bytes) -> str:
    try:
        return header.decode().strip()
    except UnicodeDecodeError:
        return header.decode("latin-1").strip()


def _question(service: Service, call: Call, asked: Any, prompt: str) -> Question:
    model = asked.get(service.shared.fields.model) if isinstance(asked, dict) else None
    return Question(
        operation=call.operation,
        space=call.space.name,
        account=call.caller.name,
        model=model if isinstance(model, str) else "",
        prompt=prompt,
        seconds=call.now / 1000 - service.begun,
    )


def _asked(body: bytes | None) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _prompt(service: Service, asked: Any) -> str:
    """Return all the text of a request's input, which is where a prompt is, whatever its model calls it."""
    values = asked.get(service.shared.fields.input) if isinstance(asked, dict) else None
    texts = values.values() if isinstance(values, dict) else ()
    return "\n".join(text for text in texts if isinstance(text, str))
