"""Seeded defects that accept invalid JSON, or refuse it with a wrong code."""

import ast
import json
import re
from collections.abc import Callable
from typing import Any, Final

from tests.minimal_requests import RefusalError
from tests.minimal_service import Service
from tests.seeded_defect import OBSERVED, SeededDefect, reads_otherwise, seeded
from tests.seeded_defects_fields import SAMPLE

_JSON, _LENGTH, _INVALID = "request/json", "input.prompt/maxLength", "code/422"
_ALL_KINDS: Final = ("missing", "type", "option", "long", "uri", "model", "malformed")
_REQUIRED: Final = (
    *("request/required/model", "request/required/input"),
    *("input/required/prompt", "input/required/aspect_ratio", "input/required/quality"),
)
_TYPES: Final = tuple(
    f"{field}/type"
    for field in ("model", "input", "callBackUrl", "input.prompt", "input.aspect_ratio", "input.quality")
)
_ENUMS: Final = ("input.aspect_ratio/enum", "input.quality/enum")


def _reads_what_comes_first(text: str) -> Any:
    return json.JSONDecoder().raw_decode(text)[0]


def _reads_commas(text: str) -> Any:
    return json.loads(re.sub(r",(\s*[}\]])", r"\1", text))


def _reads_quotes(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except SyntaxError:
        raise ValueError(text) from None


def _reads_nothing(text: str) -> Any:
    return json.loads(text) if text else SAMPLE


def _reads_any_bytes(self: Service, body: bytes) -> Any:
    return Service.parse(self, body.decode("utf-8", "replace").encode())


def _codes(kinds: tuple[str, ...], code: int) -> Callable[..., RefusalError]:
    def refusal(self: Service, kind: str, message: str) -> RefusalError:
        return RefusalError(code, message) if kind in kinds else Service.refusal(self, kind, message)

    return refusal


def _crashes(on: Callable[[bytes], bool]) -> Callable[..., Any]:
    def parse(self: Service, body: bytes) -> Any:
        if on(body):
            raise RefusalError(500, "Server exception, please try again later")
        return Service.parse(self, body)

    return parse


def _is_not_utf8(body: bytes) -> bool:
    return body.decode("utf-8", "replace").encode() != body


def _is_deep(body: bytes) -> bool:
    return body.count(b"[") + body.count(b"{") > 200


def _leaves(self: Service, body: bytes) -> Any:
    if _is_deep(body):
        raise MemoryError
    return Service.parse(self, body)


_BODIES: Final = (
    *(
        seeded(name, _JSON, "request/type", load=reads_otherwise(read))
        for name, read in (
            ("any text for a body", lambda _: SAMPLE),
            ("an empty body", _reads_nothing),
        )
    ),
    seeded("500 for invalid JSON", _JSON, _INVALID, refusal=_codes(("malformed",), 500)),
    seeded("500 for an empty body", _JSON, _INVALID, parse=_crashes(lambda body: not body)),
    seeded("500 for bytes that are not UTF-8", _JSON, _INVALID, parse=_crashes(_is_not_utf8)),
)

LENIENT: Final = (
    seeded("a body with something after it", load=reads_otherwise(_reads_what_comes_first)),
    seeded("a comma too many", load=reads_otherwise(_reads_commas)),
    seeded("single quotes", load=reads_otherwise(_reads_quotes)),
    seeded("NaN", refuse_constant=lambda *_: 0.0),
    seeded("bytes that are not UTF-8", parse=_reads_any_bytes),
    seeded("500 for deep nesting", parse=_crashes(_is_deep)),
    seeded("no response to deep nesting", parse=_leaves),
)
"""Lawful servers that accept invalid JSON or refuse deep nesting; RFC 8259, section 9, allows both."""

_CODES: Final = tuple(
    seeded(f"{code} for {message}", *clauses, _INVALID, "answer/code/enum", refusal=_codes(kinds, code))
    for code, message, kinds, clauses in (
        (400, "a field that is missing", ("missing",), _REQUIRED),
        (400, "every refusal", _ALL_KINDS, (*_REQUIRED, *_TYPES, *_ENUMS, _LENGTH, "model/const", _JSON)),
        (404, "an unknown model", ("model",), ("model/const",)),
        (413, "a long prompt", ("long",), (_LENGTH,)),
        (401, "a long prompt", ("long",), (_LENGTH,)),
        (500, "a long prompt", ("long",), (_LENGTH,)),
        (0, "a long prompt", ("long",), (_LENGTH,)),
        (500, "a wrong type", ("type",), _TYPES),
        (402, "a wrong option", ("option",), _ENUMS),
        (501, "a callBackUrl that is no URI", ("uri",), ("callBackUrl/format",)),
    )
)

_OBSERVED: Final = (
    seeded(
        "404 for a field that is missing, as observed",
        *(*_REQUIRED, "code/500", "code/404", _INVALID),
        variant=OBSERVED,
        refusal=_codes(("missing",), 404),
    ),
)

BODIES: Final[tuple[SeededDefect, ...]] = (*_BODIES, *_CODES, *_OBSERVED)
