"""Seeded defects that accept values near the allowed ones, or refuse valid values and spellings."""

import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from tests.minimal_service import Call, Service
from tests.seeded_defect import SeededDefect, seeded
from tests.seeded_defects_fields import option_if

_PROMPT, _RATIO, _QUALITY = "input.prompt/type", "input.aspect_ratio/enum", "input.quality/enum"
_URL, _SPELLING = "callBackUrl/format", "request/spelling"
_TAKEN: Final = ("code/200", "request/type", "operation/path", "operation/method")
"""The clauses that a finding may name if a valid request is refused for a reason that no clause covers."""


def _option_as(field: str, change: Callable[[str], str]) -> Callable[..., None]:
    def check_option(self: Service, value: Any, name: str, options: tuple[str, ...]) -> None:
        near = change(value) if name == field and isinstance(value, str) else value
        Service.check_option(self, near, name, options)

    return check_option


def _callback_if(accepts: Callable[[Any], bool]) -> Callable[..., None]:
    return lambda self, value: None if accepts(value) else Service.check_callback(self, value)


def _refuses(is_refused: Callable[[dict[str, Any]], bool]) -> Callable[..., None]:
    def check(self: Service, request: Any) -> None:
        Service.check(self, request)
        if is_refused(request):
            raise self.refusal("option", "Not today.")

    return check


def _refuses_prompt(is_refused: Callable[[str], bool]) -> Callable[..., None]:
    return _refuses(lambda request: is_refused(request["input"]["prompt"]))


def _refuses_option(field: str, option: str) -> Callable[..., None]:
    return _refuses(lambda request: request["input"][field] == option)


def _refuses_pair(quality: str, ratio: str) -> Callable[..., None]:
    return _refuses(lambda request: (request["input"]["quality"], request["input"]["aspect_ratio"]) == (quality, ratio))


def _refuses_text(is_refused: Callable[[str], bool]) -> Callable[..., Any]:
    def load(self: Service, text: str) -> Any:
        if is_refused(text):
            raise ValueError(text)
        return Service.load(self, text)

    return load


def _refuses_type(is_refused: Callable[[str], bool]) -> Callable[..., Any]:
    def create(self: Service, account: Any, call: Call) -> Any:
        if is_refused(call.headers.get("Content-Type", "")):
            raise self.refusal("malformed", "Send application/json.")
        return Service.create(self, account, call)

    return create


def _keeps_escapes(self: Service, text: str) -> Any:
    return Service.load(self, re.sub(r"\\u(?!d[89a-f])", r"\\\\u", text, flags=re.IGNORECASE))


def _has_capitals(kind: str) -> bool:
    return kind.partition(";")[0] != kind.partition(";")[0].lower()


def _narrow(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


_NEAR: Final = tuple(
    seeded(f"{field} {description}", f"input.{field}/enum", check_option=hook)
    for field in ("quality", "aspect_ratio")
    for description, hook in (
        ("with white space", _option_as(field, str.strip)),
        ("in full width", _option_as(field, _narrow)),
        ("of any text", option_if(field, lambda value: isinstance(value, str))),
        ("that is empty", option_if(field, lambda value: value == "")),
    )
)

_OPTIONS: Final = (
    seeded("quality in any case", _QUALITY, check_option=_option_as("quality", str.lower)),
    *(
        seeded(f"{ratio} refused", f"{_RATIO}/{ratio}", _RATIO, check=_refuses_option("aspect_ratio", ratio))
        for ratio in ("21:9", "3:4")
    ),
    seeded("high refused", f"{_QUALITY}/high", _QUALITY, check=_refuses_option("quality", "high")),
    *(
        seeded(
            f"{quality} with {ratio} refused",
            *(f"{_RATIO}/{ratio}", f"{_QUALITY}/{quality}", _RATIO, _QUALITY, *_TAKEN),
            check=_refuses_pair(quality, ratio),
        )
        for quality, ratio in (("high", "21:9"), ("high", "2:3"), ("basic", "9:16"))
    ),
)

_CALLBACK_URLS: Final = (
    seeded("a callBackUrl of any kind", "callBackUrl/type", _URL, check_callback=lambda *_: None),
    seeded("null for callBackUrl", "callBackUrl/type", check_callback=_callback_if(lambda value: value is None)),
    seeded("a number for callBackUrl", "callBackUrl/type", check_callback=_callback_if(lambda v: type(v) is int)),
    seeded("a list for callBackUrl", "callBackUrl/type", check_callback=_callback_if(lambda v: isinstance(v, list))),
    seeded("any text for callBackUrl", _URL, check_callback=_callback_if(lambda value: isinstance(value, str))),
    seeded("no text for callBackUrl", _URL, check_callback=_callback_if(lambda value: value == "")),
    seeded(
        "no request with a callBackUrl",
        *("callBackUrl/type", _URL, "callback/sent", *_TAKEN),
        check=_refuses(lambda request: "callBackUrl" in request),
    ),
    seeded(
        "no request without a callBackUrl",
        *("callBackUrl/type", _URL, *_TAKEN),
        check=_refuses(lambda request: "callBackUrl" not in request),
    ),
)

_SPELLINGS: Final = (
    seeded("a charset refused", _SPELLING, create=_refuses_type(lambda kind: ";" in kind)),
    seeded("a media type in capitals refused", _SPELLING, create=_refuses_type(_has_capitals)),
    seeded("escapes not decoded", _SPELLING, "record/param/same", load=_keeps_escapes),
    seeded("escapes refused", _SPELLING, _PROMPT, load=_refuses_text(lambda text: "\\u" in text)),
    seeded("escaped slashes refused", _SPELLING, load=_refuses_text(lambda text: "\\/" in text)),
    seeded("line ends refused", _SPELLING, load=_refuses_text(lambda text: "\n" in text)),
    seeded(
        "another order of fields refused",
        _SPELLING,
        load=_refuses_text(lambda text: text.find('"model"') > text.find('"input"') > 0),
    ),
    *(
        seeded(name, *(_PROMPT, _SPELLING, "input.prompt/maxLength", *_TAKEN), check=_refuses_prompt(is_refused))
        for name, is_refused in (
            ("letters beyond ASCII refused", lambda prompt: not prompt.isascii()),
            ("letters beyond the BMP refused", lambda prompt: max(prompt, default="") > "\uffff"),
            ("quotes in a prompt refused", lambda prompt: '"' in prompt),
        )
    ),
)

VALUES: Final[tuple[SeededDefect, ...]] = (*_NEAR, *_OPTIONS, *_CALLBACK_URLS, *_SPELLINGS)
