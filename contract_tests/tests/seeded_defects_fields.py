"""Seeded defects that accept missing fields, wrong types or long texts, or measure lengths wrongly."""

import json
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from tests.minimal_service import Service
from tests.minimal_variants import MODEL
from tests.seeded_defect import SeededDefect, seeded

_INPUT: Final = {"prompt": "a default", "aspect_ratio": "1:1", "quality": "basic"}
SAMPLE: Final = {"model": MODEL, "input": _INPUT}
_DEFAULTS: Final[dict[str, Any]] = {**SAMPLE, **_INPUT}
_PROMPT: Final = "input.prompt/type"
_LENGTH: Final = "input.prompt/maxLength"

Accepts = Callable[[Any], bool]


def _fills(field: str) -> Callable[..., Any]:
    def required(self: Service, holder: dict[str, Any], name: str) -> Any:
        return holder.setdefault(name, _DEFAULTS[name]) if name == field else Service.required(self, holder, name)

    return required


def _prompt_if(accepts: Accepts) -> Callable[..., None]:
    return lambda self, value: None if accepts(value) else Service.check_prompt(self, value)


def _model_if(accepts: Accepts) -> Callable[..., None]:
    return lambda self, value: None if accepts(value) else Service.check_model(self, value)


def _model_like(accepts: Callable[[str], bool]) -> Callable[..., None]:
    return _model_if(lambda value: isinstance(value, str) and accepts(value))


def _input_if(accepts: Accepts) -> Callable[..., None]:
    return lambda self, value: None if accepts(value) else Service.check_input(self, value)


def option_if(field: str, accepts: Accepts) -> Callable[..., None]:
    def check_option(self: Service, value: Any, name: str, options: tuple[str, ...]) -> None:
        if name != field or not accepts(value):
            Service.check_option(self, value, name, options)

    return check_option


def _stands_for(values: Accepts) -> Callable[..., Any]:
    """Accept some invalid bodies as a valid request."""

    def parse(self: Service, body: bytes) -> Any:
        value = Service.parse(self, body)
        return SAMPLE if values(value) else value

    return parse


def _reads_json_input(self: Service, given: Any) -> None:
    Service.check_input(self, json.loads(given) if isinstance(given, str) and given.startswith("{") else given)


_KINDS: Final[dict[str, Accepts]] = {
    "null": lambda value: value is None,
    "a number": lambda value: type(value) in (int, float),
    "true": lambda value: type(value) is bool,
    "a list": lambda value: isinstance(value, list),
    "an object": lambda value: isinstance(value, dict),
}

_REQUIRED: Final = tuple(
    seeded(f"{name} may be missing", f"{holder}/required/{name}", required=_fills(name))
    for holder, names in (("request", ("model", "input")), ("input", ("prompt", "aspect_ratio", "quality")))
    for name in names
)

_TYPES: Final = (
    seeded("a prompt of any type", _PROMPT, check_prompt=_prompt_if(lambda value: not isinstance(value, str))),
    *(seeded(f"{kind} for a prompt", _PROMPT, check_prompt=_prompt_if(is_kind)) for kind, is_kind in _KINDS.items()),
    *(
        seeded(
            f"{kind} for {field}",
            *(f"input.{field}/type", f"input.{field}/enum"),
            check_option=option_if(field, is_kind),
        )
        for field in ("aspect_ratio", "quality")
        for kind, is_kind in _KINDS.items()
    ),
    *(
        seeded(f"{kind} for model", "model/type", "model/const", check_model=_model_if(is_kind))
        for kind, is_kind in _KINDS.items()
    ),
    seeded("input as a JSON string", "input/type", check_input=_reads_json_input),
    *(
        seeded(f"{kind} for input", "input/type", check_input=_input_if(_KINDS[kind]))
        for kind in ("null", "a list", "a number")
    ),
    *(
        seeded(f"{kind} for a body", "request/type", "request/json", parse=_stands_for(_KINDS[kind]))
        for kind in ("null", "a list", "a number")
    ),
    seeded("text for a body", "request/type", "request/json", parse=_stands_for(lambda value: isinstance(value, str))),
)

_MODELS: Final = tuple(
    seeded(name, "model/const", check_model=_model_like(accepts))
    for name, accepts in (
        ("any model", lambda _: True),
        ("an empty model", lambda value: not value),
        ("the model in any case", lambda value: value.lower() == MODEL),
        ("the model with white space around it", lambda value: value.strip() == MODEL),
        ("a model that begins right", lambda value: value.startswith(MODEL)),
        ("any model of the family", lambda value: value.startswith("seedream/")),
    )
)

_LENGTHS: Final = tuple(
    seeded(name, _LENGTH, length=length)
    for name, length in (
        ("no limit to the prompt", lambda *_: 0),
        ("one character too many", lambda _, text: len(text) - 1),
        ("one character too few", lambda _, text: len(text) + 1),
        ("a limit of 2000", lambda _, text: len(text) + 1000),
        ("a limit of 4000", lambda _, text: len(text) - 1000),
        ("bytes counted", lambda _, text: len(text.encode("utf-8", "replace"))),
        ("units of UTF-16 counted", lambda _, text: len(text.encode("utf-16-le", "surrogatepass")) // 2),
        ("white space at the ends not counted", lambda _, text: len(text.strip())),
        ("an accent counted with its letter", lambda _, text: len(unicodedata.normalize("NFC", text))),
        ("escapes counted", lambda _, text: len(json.dumps(text)) - 2),
        ("the limit on ASCII alone", lambda _, text: len(text) * text.isascii()),
    )
)

FIELDS: Final[tuple[SeededDefect, ...]] = (*_REQUIRED, *_TYPES, *_MODELS, *_LENGTHS)
