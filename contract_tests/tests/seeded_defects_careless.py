"""Seeded defects of careless servers: lawful, but not robust, so that the checker has to report warnings only."""

import ast
import gzip
import http.client
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from tests.minimal_requests import RefusalError
from tests.minimal_service import Call, Response, Service
from tests.minimal_tasks import Task
from tests.minimal_variants import Variant
from tests.seeded_defect import OBSERVED, SeededDefect, careless, reads_otherwise

_CREATE, _RECORD, _CREDIT = "/api/v1/jobs/createTask", "/api/v1/jobs/recordInfo", "/api/v1/chat/credit"
_STRICT, _TYPE, _UNKNOWN = "practice/strict-json", "practice/media-type", "practice/unknown-fields"
_TEXTS, _NUMBERS, _NAMES = "practice/odd-texts", "practice/odd-numbers", "practice/repeated-names"
_DEEP, _LARGE, _HEADERS = "practice/deep-nesting", "practice/large-bodies", "practice/odd-headers"
_SPELLING, _STRICT_KEY = "practice/key-spelling", "practice/strict-key"
_QUERIES, _PATHS, _METHODS = "practice/odd-queries", "practice/unknown-paths", "practice/other-methods"


# Bodies


def _reads_after(pattern: str, instead: str) -> Callable[..., Any]:
    return reads_otherwise(lambda text: json.loads(re.sub(pattern, instead, text)))


def _reads_quotes(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except SyntaxError:
        raise ValueError(text) from None


def _decodes(encoding: str, errors: str = "strict") -> Callable[..., Any]:
    """Decode a body as UTF-8, and otherwise in another way."""

    def parse(self: Service, body: bytes) -> Any:
        try:
            return Service.parse(self, body)
        except RefusalError:
            try:
                return self.load(body.decode(encoding, errors))
            except (ValueError, RecursionError):
                raise self.refusal("malformed", "The body is not JSON.") from None

    return parse


def _takes(*kinds: str) -> Callable[..., Any]:
    """Accept some media types besides JSON."""

    def check(self: Service, headers: Any) -> None:
        if headers.get("Content-Type", "").partition(";")[0] not in kinds:
            Service.check_content_type(self, headers)

    return check


def _knows_only(is_known: Callable[[dict[str, Any], tuple[str, ...]], bool]) -> Callable[..., Any]:
    def check_names(self: Service, value: dict[str, Any], names: tuple[str, ...]) -> None:
        if not is_known(value, names):
            raise self.refusal("unknown", "The request has an unknown field.")

    return check_names


def _has_repeated_name(call: Call) -> bool:
    def check(pairs: list[tuple[str, Any]]) -> Any:
        if len(dict(pairs)) < len(pairs):
            raise KeyError(pairs)
        return dict(pairs)

    try:
        json.loads(call.body, object_pairs_hook=check)
    except KeyError:
        return True
    except (ValueError, RecursionError):
        pass
    return False


def _has_prompt(is_odd: Callable[[str], bool]) -> Callable[[Call], bool]:
    def matches(call: Call) -> bool:
        try:
            prompt = json.loads(call.body)["input"]["prompt"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        return isinstance(prompt, str) and is_odd(prompt)

    return matches


def _is_deep(call: Call) -> bool:
    return call.body.count(b"[") + call.body.count(b"{") > 200


# Whole calls


def _fails(when: Callable[[Call], bool]) -> Callable[..., Response]:
    """Fail with the code of an internal error."""
    error = RefusalError(500, "Server exception, please try again later")
    return _answers(when, lambda self, call: self.refusal_response(call, error))


def _breaks(when: Callable[[Call], bool]) -> Callable[..., Response]:
    """Close the connection without a response, as a process that ends does."""

    def end(self: Service, call: Call) -> Response:
        raise ConnectionError

    return _answers(when, end)


def _crashes(when: Callable[[Call], bool]) -> Callable[..., Response]:
    """Fail as a web framework does, in plain text."""
    return _answers(when, lambda *_: Response(500, b"Internal Server Error", {"Content-Type": "text/plain"}))


def _answers(when: Callable[[Call], bool], answer: Callable[[Service, Call], Response]) -> Callable[..., Response]:
    def handle(self: Service, call: Call) -> Response:
        return answer(self, call) if when(call) else Service.handle(self, call)

    return handle


def _creates(call: Call) -> bool:
    return (call.method, call.path) == ("POST", _CREATE)


def _asks(text: str) -> Callable[[Call], bool]:
    return lambda call: call.path == _RECORD and re.search(text, call.target) is not None


def _is_unknown_path(call: Call) -> bool:
    return not call.path.startswith(("/files/", "/api/v1/models")) and call.path not in (
        *(_CREATE, _RECORD, _CREDIT),
        "/api/v1/common/download-url",
    )


def _page(status: int) -> Callable[[Service, Call], Response]:
    return lambda *_: Response(status, b"<!doctype html><title>a</title>", {"Content-Type": "text/html"})


def _with_headers(**headers: str) -> Callable[..., Response]:
    def respond(self: Service, *args: Any, **named: Any) -> Response:
        response = Service.respond(self, *args, **named)
        return replace(response, headers={**response.headers, **headers})

    return respond


def _changed_response(change: Callable[[bytes], bytes], **headers: str) -> Callable[..., Response]:
    def respond(self: Service, *args: Any, **named: Any) -> Response:
        response = Service.respond(self, *args, **named)
        return replace(response, body=change(response.body), headers={**response.headers, **headers})

    return respond


# Keys


def _token(read: Callable[[str], str]) -> Callable[..., str]:
    """Read the token of one header; the scheme is valid in any case."""
    return lambda self, headers: read(headers[0].strip()) if len(headers) == 1 else ""


def _after(pattern: str) -> Callable[..., str]:
    def read(header: str) -> str:
        found = re.fullmatch(pattern, header)
        return found[1] if found else ""

    return _token(read)


def _one_of_two(index: int) -> Callable[..., str]:
    return lambda self, headers: Service.token(self, headers[index:][:1] if headers else [])


# Callbacks


def _refuses_url(is_refused: Callable[[str], bool]) -> Callable[..., None]:
    def check_callback(self: Service, value: Any) -> None:
        Service.check_callback(self, value)
        if is_refused(value):
            raise self.refusal("uri", "callBackUrl is not allowed")

    return check_callback


def _accepts_scheme(*schemes: str) -> Callable[..., None]:
    def check_callback(self: Service, value: Any) -> None:
        if not (isinstance(value, str) and value.partition(":")[0] in schemes):
            Service.check_callback(self, value)

    return check_callback


def _follows(self: Service, task: Task, body: bytes) -> int:
    status = Service.post(self, task, body)
    if status != 307:
        return status
    headers = {"Content-Type": "application/json", **self.signature(task, body)}
    return self.post_to(task.callback_url, f"{urlsplit(task.callback_url).path}-moved", body, headers)


def _only_200(self: Service, task: Task) -> bool:
    try:
        return self.post(task, json.dumps(self.callback(task)).encode()) == 200
    except (OSError, http.client.HTTPException, ValueError):
        return False


# Records


def _cost_in_seconds(self: Service, task: Task, state: str) -> dict[str, Any]:
    times = Service.times(self, task, state)
    return {**times, "costTime": times["costTime"] // 1000 if times["costTime"] is not None else None}


def _cost_in_milliseconds(self: Service, task: Task, state: str) -> dict[str, Any]:
    times = Service.times(self, task, state)
    return {**times, "costTime": times["costTime"] * 1000 if times["costTime"] is not None else None}


def _unknown_for(seconds: float) -> Callable[..., bool]:
    return lambda self, task: self.age(task) >= seconds


_BODIES: Final = (
    careless(
        "text after a request", _STRICT, load=reads_otherwise(lambda text: json.JSONDecoder().raw_decode(text)[0])
    ),
    careless("a trailing comma", _STRICT, load=_reads_after(r",(\s*[}\]])", r"\1")),
    careless("Python literals", _STRICT, load=reads_otherwise(_reads_quotes)),
    careless("NaN read as 0", _STRICT, refuse_constant=lambda *_: 0.0),
    careless("comments", _STRICT, load=_reads_after(r"/\*.*?\*/|//[^\n]*\n", "")),
    careless("control characters in texts", _STRICT, load=reads_otherwise(lambda text: json.loads(text, strict=False))),
    careless("hexadecimal numbers", _STRICT, load=_reads_after(r"\b0x[0-9a-f]+", "1")),
    careless("numbers that start with 0", _STRICT, load=_reads_after(r"(?<= )0(\d)", r"\1")),
    careless("undefined read as null", _STRICT, load=_reads_after("undefined", "null")),
    careless("bytes that are not UTF-8 replaced", _STRICT, parse=_decodes("utf-8", "replace")),
    careless("UTF-16 guessed", _STRICT, parse=_decodes("utf-16")),
    careless("Latin-1 guessed", _STRICT, parse=_decodes("latin-1")),
    careless("text/plain for JSON", _TYPE, check_content_type=_takes("text/plain")),
    careless("multipart for JSON", _TYPE, check_content_type=_takes("multipart/form-data")),
    careless("XML for JSON", _TYPE, check_content_type=_takes("application/xml")),
    careless("any type for JSON", _TYPE, check_content_type=lambda *_: None),
    careless("any type for JSON, as observed", _TYPE, variant=OBSERVED, check_content_type=lambda *_: None),
    careless(
        "an unknown field refused",
        _UNKNOWN,
        check_names=_knows_only(lambda value, names: "model" not in names or value.keys() <= {*names}),
    ),
    careless(
        "an unknown field of the input refused",
        _UNKNOWN,
        check_names=_knows_only(lambda value, names: "prompt" not in names or value.keys() <= {*names}),
    ),
    careless(
        "an unknown null refused",
        _UNKNOWN,
        check_names=_knows_only(lambda value, names: all(value[name] is not None for name in value.keys() - {*names})),
    ),
)

_FAILURES: Final = (
    careless("500 for an empty prompt", _TEXTS, handle=_fails(_has_prompt(lambda prompt: not prompt))),
    careless("500 for a NUL", _TEXTS, handle=_fails(_has_prompt(lambda prompt: "\0" in prompt))),
    careless(
        "500 for a lone surrogate",
        _TEXTS,
        handle=_fails(_has_prompt(lambda p: re.search("[\ud800-\udfff]", p) is not None)),
    ),
    careless("500 for a byte order mark", _TEXTS, handle=_fails(lambda call: call.body.startswith(b"\xef\xbb\xbf"))),
    careless("500 for a blank prompt", _TEXTS, handle=_fails(_has_prompt(lambda prompt: prompt.isspace()))),
    careless("no response to a NUL", _TEXTS, handle=_breaks(_has_prompt(lambda prompt: "\0" in prompt))),
    careless("a crash at a NUL", _TEXTS, handle=_crashes(_has_prompt(lambda prompt: "\0" in prompt))),
    careless("500 for a nested body", _DEEP, handle=_fails(_is_deep)),
    careless("no response to a nested body", _DEEP, handle=_breaks(_is_deep)),
    careless("a crash at a nested body, as observed", _DEEP, variant=OBSERVED, handle=_fails(_is_deep)),
    careless("500 for a large body", _LARGE, handle=_fails(lambda call: len(call.body) > 1_000_000)),
    careless("500 for a repeated name", _NAMES, handle=_fails(_has_repeated_name)),
    careless("a crash at a repeated name", _NAMES, handle=_crashes(_has_repeated_name)),
    careless(
        "500 for a very long number",
        _NUMBERS,
        handle=_fails(lambda call: b"1" * 4000 in call.body and b"model" in call.body),
    ),
    careless(
        "500 for an infinite number",
        _NUMBERS,
        handle=_fails(lambda call: b"1e400" in call.body and b"model" in call.body),
    ),
    careless(
        "500 for two types", _HEADERS, handle=_fails(lambda call: len(call.headers.get_all("Content-Type", [])) > 1)
    ),
    careless("500 for a compressed body", _HEADERS, handle=_fails(lambda call: "Content-Encoding" in call.headers)),
    careless(
        "500 for an unknown charset",
        _HEADERS,
        handle=_fails(lambda call: "nonsense" in call.headers.get("Content-Type", "")),
    ),
    careless(
        "500 without a type",
        _HEADERS,
        handle=_fails(lambda call: _creates(call) and "Content-Type" not in call.headers),
    ),
    careless(
        "411 for a body in chunks",
        "practice/chunked-bodies",
        handle=_answers(
            lambda call: "Transfer-Encoding" in call.headers,
            lambda *_: Response(411, b"length required", {"Content-Type": "text/plain"}),
        ),
    ),
    careless("500 for a NUL in a query", _QUERIES, handle=_fails(_asks("%00"))),
    careless("500 for two task IDs", _QUERIES, handle=_fails(_asks("taskId.*taskId"))),
    careless("500 for a long query", _QUERIES, handle=_fails(_asks("a{5000}"))),
    careless("a crash at a query that is not UTF-8", _QUERIES, handle=_crashes(_asks("%FF"))),
)

_KEYS: Final = (
    careless("the scheme in lower case refused", _SPELLING, token=_after(r"(?:Bearer|BEARER) +(\S+)")),
    careless("the scheme in upper case refused", _SPELLING, token=_after(r"(?:Bearer|bearer) +(\S+)")),
    careless("two spaces refused", _SPELLING, token=_after(r"(?i:bearer) (\S+)")),
    careless("no space after the scheme", _STRICT_KEY, token=_after(r"(?i:bearer) *(\S+)")),
    careless("a colon after the scheme", _STRICT_KEY, token=_after(r"(?i:bearer):? +(\S+)")),
    careless("quotes around the key", _STRICT_KEY, token=_after(r"(?i:bearer) +\"?([^\s\"]+)\"?")),
    careless("a word after the key", _STRICT_KEY, token=_after(r"(?i:bearer) +(\S+)(?: \w)?")),
    careless("a comma after the key", _STRICT_KEY, token=_after(r"(?i:bearer) +([^,\s]+),?")),
    careless("a list of keys", _STRICT_KEY, token=_after(r"(?i:bearer) +([^,\s]+)(?:, .*)?")),
    careless("the scheme twice before the key", _STRICT_KEY, token=_after(r"(?i:bearer) +(?:Bearer )?(\S+)")),
    careless("the first of two keys", "practice/one-key", token=_one_of_two(0)),
    careless("the last of two keys", "practice/one-key", token=_one_of_two(-1)),
    careless(
        "500 for another header",
        "practice/odd-keys",
        handle=_fails(lambda call: "X-API-Key" in call.headers),
    ),
)

_CALLS: Final = (
    careless("HTML for an unknown path", _PATHS, handle=_answers(_is_unknown_path, _page(404))),
    careless("the home page for an unknown path", _PATHS, handle=_answers(_is_unknown_path, _page(200))),
    careless("500 for an unknown path", _PATHS, handle=_fails(_is_unknown_path)),
    careless(
        "plain text for an unknown path",
        _PATHS,
        handle=_answers(_is_unknown_path, lambda *_: Response(404, b"", {"Content-Type": "text/plain"})),
    ),
    careless(
        "GET on createTask succeeds",
        _METHODS,
        handle=_answers(
            lambda call: (call.method, call.path) == ("GET", _CREATE),
            lambda self, call: self.respond(call, 200, "success", None),
        ),
    ),
    careless(
        "a page for GET on createTask",
        _METHODS,
        handle=_answers(lambda call: (call.method, call.path) == ("GET", _CREATE), _page(200)),
    ),
    careless(
        "POST on credit succeeds",
        _METHODS,
        handle=_answers(
            lambda call: (call.method, call.path) == ("POST", _CREDIT),
            lambda self, call: Service.handle(self, replace(call, method="GET")),
        ),
    ),
    careless(
        "405 without Allow",
        _METHODS,
        handle=_answers(
            lambda call: call.path == _CREATE and call.method != "POST",
            lambda *_: Response(405, b"{}", {"Content-Type": "application/json"}),
        ),
    ),
    careless("a crash at OPTIONS", _METHODS, handle=_crashes(lambda call: call.method == "OPTIONS")),
    careless("a crash at HEAD", _METHODS, handle=_crashes(lambda call: call.method == "HEAD")),
    careless(
        "two Content-Type headers",
        "practice/single-headers",
        respond=_with_headers(**{"content-type": "application/json"}),
    ),
    careless("two Expires headers", "practice/single-headers", respond=_with_headers(Expires="0", expires="-1")),
    careless(
        "compressed responses",
        "practice/identity",
        respond=_changed_response(gzip.compress, **{"Content-Encoding": "gzip"}),
    ),
    careless(
        "a name twice in a response",
        "practice/unique-names",
        respond=_changed_response(lambda body: body.replace(b"{", b'{"a": 1, "a": 2, ', 1)),
    ),
)

_SECONDS: Final = Variant(seconds=2.2)

_TASKS: Final = (
    careless(
        "records that may be cached",
        "practice/fresh-records",
        respond=_with_headers(**{"Cache-Control": "public, max-age=60"}),
    ),
    careless("ftp accepted for a callback", "practice/callback-scheme", check_callback=_accepts_scheme("ftp")),
    careless("mailto accepted for a callback", "practice/callback-scheme", check_callback=_accepts_scheme("mailto")),
    careless("file accepted for a callback", "practice/callback-scheme", check_callback=_accepts_scheme("file")),
    careless(
        "a port in a callback refused",
        "practice/callback-port",
        variant=Variant(callbacks=False),
        check_callback=_refuses_url(lambda url: urlsplit(url).port is not None),
    ),
    careless(
        "plain http for a callback refused",
        "practice/callback-http",
        variant=Variant(callbacks=False),
        check_callback=_refuses_url(lambda url: url.startswith("http:")),
    ),
    careless("a redirect of the receiver followed", "practice/redirects", post=_follows),
    careless(
        "a callback sent again after 204", "practice/any-success", variant=Variant(retry_seconds=0.2), send=_only_200
    ),
    careless("a task unknown for a moment", "practice/visible-at-once", is_visible=_unknown_for(0.3)),
    careless(
        "a task unknown for a moment, as observed",
        "practice/visible-at-once",
        variant=OBSERVED,
        is_visible=_unknown_for(0.3),
    ),
    careless(
        "costTime in seconds, dialect detected",
        "practice/one-dialect",
        variant=_SECONDS,
        known={"dialect": "auto"},
        times=_cost_in_seconds,
    ),
    careless(
        "costTime in milliseconds, observed dialect detected",
        "practice/one-dialect",
        variant=replace(OBSERVED, seconds=2.0),
        known={"dialect": "auto"},
        times=_cost_in_milliseconds,
    ),
)

CARELESS_READING: Final[tuple[SeededDefect, ...]] = (*_BODIES, *_FAILURES, *_KEYS, *_CALLS)
"""Defects that show without waiting for a task."""
CARELESS: Final[tuple[SeededDefect, ...]] = (*CARELESS_READING, *_TASKS)
