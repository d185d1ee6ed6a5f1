"""The subcommand ``seedbed har export``: the journal of a running server as a HAR file, without keys and cookies."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from cyclopts import Parameter
from seedbed_schemas import commands
from seedbed_schemas.commands import CommandError, JsonFlag

from seedbed_mock.control.client import ControlledServer
from seedbed_mock.recording.archive import HarExchange, Redactor, har_document, har_entry, result_urls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse

    from seedbed_mock.journal import Headers


_PAGE = 1000
_FETCH_SECONDS = 60
_LARGEST_IMAGE = 64 * 1024 * 1024


def export(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("-"),
    images: Literal["link", "include"] = "link",
    url: Annotated[str | None, Parameter(name="--url")] = None,
    token: Annotated[str, Parameter(name="--control-token", show_default=False)] = "",
    space: Annotated[str, Parameter(name="--space", show_default=False)] = "",
    as_json: JsonFlag = False,
) -> int:
    """Write the calls and callbacks that a server remembers as a HAR file.

    Args:
        output: File to write; - for standard output.
        images: Whether to leave result images at their URLs, or to include them in the file.
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: Write only the calls of this space.
        as_json: With --output, print the name of the file as JSON; a HAR file is JSON in any case.
    """
    server = ControlledServer(url, token)
    try:
        exchanges = list(_exchanges(server, space))
        if images == "include":
            exchanges += _images(exchanges)
        text = json.dumps(har_document([har_entry(each) for each in exchanges]), ensure_ascii=False, indent=1)
        if str(output) == "-":
            sys.stdout.flush()
            # In UTF-8, whatever the encoding of standard output is.
            sys.stdout.buffer.write(f"{text}\n".encode())
        else:
            output.write_text(f"{text}\n", encoding="utf-8")
            if as_json:
                commands.print_json({"written": str(output)})
    except CommandError as error:
        return error.print("har")
    except OSError as error:
        if error.filename is None:
            raise
        return commands.fail("har", f"{error.filename}: {error.strerror}")
    return 0


def _exchanges(server: ControlledServer, space: str) -> Iterator[HarExchange]:
    """Yield the entries of the journal, oldest first."""
    pages: list[list[dict[str, Any]]] = []
    before: int | None = None
    while True:
        page = server.call("GET", "journal", space=space, limit=_PAGE, before=before)
        pages.append(page["entries"])
        if (before := page.get("before")) is None:
            break
    for items in reversed(pages):
        for item in items:
            yield exchange_of_item(item, server.base_url)


def exchange_of_item(item: dict[str, Any], base_url: str) -> HarExchange:
    """Return an entry of the journal, as the control API gives it, as an exchange without secrets.

    The journal keeps no headers of responses, so that only the media type is known, from the body.
    """
    is_callback = item["kind"] == "callback"
    # Of a callback, the journal has the reason why there was no response in its place.
    answer = b"" if is_callback else _bytes(item["answer"])
    media_type = "application/json" if isinstance(item["answer"], dict | list) else "text/plain; charset=utf-8"
    sent = {"content-type": "application/json"} if is_callback else item["headers"]
    headers: Headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items())
    exchange = HarExchange(
        started=item["at"],
        duration=item["duration"],
        method=item["method"],
        url=item["target"] if is_callback else base_url + item["target"],
        request_headers=headers,
        request=_bytes(item["request"]),
        status=item["status"] or 0,
        response_headers=() if is_callback else ((b"content-type", media_type.encode()),),
        response=answer,
        error=str(item["answer"] or "") if is_callback else "",
        operation=item["operation"],
        task_id=item["task_id"],
    )
    return Redactor(()).exchange(exchange)


def _bytes(value: Any) -> bytes:
    if value is None:
        return b""
    return value.encode() if isinstance(value, str) else json.dumps(value, ensure_ascii=False).encode()


def _images(exchanges: list[HarExchange]) -> Iterator[HarExchange]:
    """Yield the results that the records name, as exchanges that fetch them."""
    seen = set[str]()
    for exchange in exchanges:
        try:
            content = json.loads(exchange.response or b"null")
        except ValueError:
            continue
        for url in result_urls(content.get("data") if isinstance(content, dict) else None):
            if url not in seen:
                seen.add(url)
                yield _image(url, exchange)


def _image(url: str, record: HarExchange) -> HarExchange:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_FETCH_SECONDS)
    # A look, which the bill of the server does not take for a fetch by its user.
    headers = {"Sec-Fetch-Site": "same-origin"}
    exchange = HarExchange(started=record.started, method="GET", url=url, operation="result", task_id=record.task_id)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", headers=headers)
        response: HTTPResponse = connection.getresponse()
        content = response.read(_LARGEST_IMAGE)
        media_type = (response.getheader("Content-Type") or "application/octet-stream").encode("latin-1")
        return HarExchange(
            started=record.started,
            method="GET",
            url=url,
            status=response.status,
            response_headers=((b"content-type", media_type),),
            response=content,
            operation="result",
            task_id=record.task_id,
        )
    except (OSError, http.client.HTTPException) as error:
        commands.warn("har", f"the image {url} is not included ({error})")
        return exchange
    finally:
        connection.close()
