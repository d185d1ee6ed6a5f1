"""Request validation of the independent server: the rules of the page, typed by hand, without a schema library."""

import json
import math
import re
from email.message import Message
from typing import Any

from tests.minimal_variants import LONGEST_PROMPT, MODEL, QUALITIES, RATIOS, Variant

_UNRESERVED = r"[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2}"
_PCHAR = rf"(?:{_UNRESERVED}|[:@])"
_AUTHORITY = rf"(?:(?:{_UNRESERVED}|:)*@)?(?:\[(?=[^\]]*:[^\]]*:)[0-9A-Fa-f:.]+\]|(?:{_UNRESERVED})*)(?::[0-9]*)?"
_PATH = rf"(?://{_AUTHORITY}(?:/{_PCHAR}*)*|/?(?:{_PCHAR}+(?:/{_PCHAR}*)*)?)"
_URI = re.compile(rf"[A-Za-z][A-Za-z0-9+.\-]*:{_PATH}(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?")
_OBSERVED_AS_500 = ("missing", "type", "option", "long", "uri")


class RefusalError(Exception):
    """A refusal of a call.

    Attributes:
        code: Code of the response.
        message: Message of the response.
        omits_data: Whether the response lacks the field ``data``.
    """

    def __init__(self, code: int, message: str, *, omits_data: bool = False) -> None:
        super().__init__(message)
        self.code, self.message, self.omits_data = code, message, omits_data


class Requests:
    """The rules for the body of createTask, one method for each."""

    variant: Variant

    def refusal(self, kind: str, message: str) -> RefusalError:
        return RefusalError(500 if self.variant.observed and kind in _OBSERVED_AS_500 else 422, message)

    def check_content_type(self, headers: Message) -> None:
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if self.variant.needs_type and kind not in ("", "application/json"):
            raise self.refusal("malformed", "Send application/json.")

    def parse(self, body: bytes) -> Any:
        try:
            return self.load(body.decode("utf-8-sig" if self.variant.bom else "utf-8"))
        except (ValueError, RecursionError):
            raise self.refusal("malformed", "The body is not JSON.") from None

    def load(self, text: str) -> Any:
        return json.loads(
            text,
            object_pairs_hook=self.object_from_pairs,
            parse_constant=self.refuse_constant,
            parse_float=self.finite_number,
        )

    def object_from_pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if self.variant.single_keys and len(dict(pairs)) < len(pairs):
            raise ValueError(pairs)
        return dict(pairs)

    def refuse_constant(self, word: str) -> float:
        raise ValueError(word)

    def finite_number(self, digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            raise ValueError(digits)
        return number

    def check(self, request: Any) -> None:
        self.check_object(request, "body")
        self.check_names(request, ("model", "input", "callBackUrl"))
        self.check_model(self.required(request, "model"))
        self.check_input(self.required(request, "input"))
        if "callBackUrl" in request:
            self.check_callback(request["callBackUrl"])

    def check_input(self, given: Any) -> None:
        self.check_object(given, "input")
        self.check_names(given, ("prompt", "aspect_ratio", "quality"))
        self.check_prompt(self.required(given, "prompt"))
        self.check_option(self.required(given, "aspect_ratio"), "aspect_ratio", RATIOS)
        self.check_option(self.required(given, "quality"), "quality", QUALITIES)

    def check_object(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise self.refusal("malformed" if name == "body" else "type", f"{name} must be an object")

    def check_names(self, value: dict[str, Any], names: tuple[str, ...]) -> None:
        if self.variant.strict and not value.keys() <= set(names):
            raise self.refusal("unknown", "The request has an unknown field.")

    def required(self, holder: dict[str, Any], name: str) -> Any:
        if name not in holder:
            raise self.refusal("missing", f"{name} is required")
        return holder[name]

    def check_text(self, value: Any, name: str) -> None:
        if not isinstance(value, str):
            raise self.refusal("type", f"{name} must be a string")

    def check_model(self, value: Any) -> None:
        self.check_text(value, "model")
        if value != MODEL:
            raise self.refusal("model", "The model name you specified is not supported.")

    def check_prompt(self, value: Any) -> None:
        self.check_text(value, "prompt")
        if self.length(value) > LONGEST_PROMPT:
            raise self.refusal("long", "The text length cannot exceed the maximum limit")
        if self.variant.needs_prompt and not value:
            raise self.refusal("empty", "prompt must not be empty")

    def length(self, text: str) -> int:
        return len(text)

    def check_option(self, value: Any, name: str, options: tuple[str, ...]) -> None:
        self.check_text(value, name)
        if value not in options:
            raise self.refusal("option", f"{name} is not within the range of allowed options")

    def check_callback(self, value: Any) -> None:
        self.check_text(value, "callBackUrl")
        if not _URI.fullmatch(value):
            raise self.refusal("uri", "callBackUrl must be a URI")
        if self.variant.only_http and not value.lower().startswith(("http:", "https:")):
            raise self.refusal("uri", "callBackUrl must be an HTTP URL")
