"""Copies of a recorded call: as a curl command, as a Python program, and as a HAR file."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Final

from seedbed_mock.call_log import LATEST
from seedbed_mock.recording.archive import HarExchange, har_document, har_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_mock.journal import JournalEntry


_KEY_VARIABLE: Final = "SEEDBED_KEY"
"""Environment variable with the key, which is not kept and so cannot be copied."""

_CONNECTION_HEADERS: Final = frozenset(
    {"host", "content-length", "connection", "accept-encoding", "transfer-encoding", "content-encoding", "keep-alive"}
)
"""Headers that a client sets itself."""

_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})


def url_of_call(entry: JournalEntry, base_url: str) -> str:
    """Return the URL of a call, which for a callback is whole already."""
    return entry.target if entry.kind == "callback" else f"{base_url}{entry.target}"


def _headers(entry: JournalEntry) -> Iterator[tuple[str, str, bool]]:
    """Yield the headers that a copy sends, and whether the value stands for a secret."""
    if entry.kind == "callback":
        yield "content-type", "application/json", False
    for raw_name, raw_value in entry.headers.fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name not in _CONNECTION_HEADERS:
            scheme = value.partition(" ")[0] if " " in value else ""
            yield name, scheme if name in _SECRET_HEADERS else value, name in _SECRET_HEADERS


def as_curl(entry: JournalEntry, base_url: str) -> str:
    """Return a call as a curl command, with the key in the environment variable ``SEEDBED_KEY``."""
    words = ["curl -s", f"-X {shlex.quote(entry.method)}", shlex.quote(url_of_call(entry, base_url))]
    for name, value, is_secret in _headers(entry):
        if is_secret:
            # In double quotes, in which the shell replaces the variable.
            words.append(f'-H "{name}: {value}{" " if value else ""}${_KEY_VARIABLE}"')
        else:
            words.append(f"-H {shlex.quote(f'{name}: {value}')}")
    if entry.request:
        words.append(f"--data-raw {shlex.quote(entry.request.decode(errors='replace'))}")
    return " \\\n  ".join(words)


def as_python(entry: JournalEntry, base_url: str) -> str:
    """Return a call as a Python program that uses httpx2."""
    headers = []
    for name, value, is_secret in _headers(entry):
        text = f'f"{value}{" " if value else ""}{{os.environ["{_KEY_VARIABLE}"]}}"'.replace(
            f'["{_KEY_VARIABLE}"]', f"['{_KEY_VARIABLE}']"
        )
        headers.append(f"        {name!r}: {text if is_secret else repr(value)},\n")
    content = f"    content={entry.request!r},\n" if entry.request else ""
    return (
        "import os\n\nimport httpx2\n\n"
        f"response = httpx2.request(\n    {entry.method!r},\n    {url_of_call(entry, base_url)!r},\n"
        f"    headers={{\n{''.join(headers)}    }},\n{content})\nprint(response.status_code, response.text)\n"
    )


def as_har(entry: JournalEntry, base_url: str) -> str:
    """Return a call as a HAR 1.2 file with one entry, without its secrets. The journal keeps no response headers."""
    headers = [(name, value) for name, value, is_secret in _headers(entry) if not is_secret]
    answer = b"" if entry.kind == "callback" else entry.answer
    exchange = HarExchange(
        started=min(entry.at, LATEST),
        duration=entry.duration,
        method=entry.method,
        url=url_of_call(entry, base_url),
        request_headers=tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers),
        request=entry.request,
        status=entry.status or 0,
        response_headers=((b"content-type", b"application/json"),) if answer else (),
        response=answer,
        error=entry.answer.decode(errors="replace") if entry.kind == "callback" else "",
        operation=entry.operation,
        task_id=entry.task_id,
    )
    return json.dumps(har_document([har_entry(exchange)]), indent=2, ensure_ascii=False)
