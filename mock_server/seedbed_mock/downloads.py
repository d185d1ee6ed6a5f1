"""URLs of downloads: they name a result, hold for some minutes, and carry the mark of the server that made them."""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING
from urllib.parse import unquote

from seedbed_mock.answers import Refusal
from seedbed_mock.results.picture import RESULTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_mock.service import Call, Service

_UNTIL, _MARK = "until", "mark"


def link_download(service: Service, call: Call) -> None:
    """Give a URL of a result of this service that holds for some minutes."""
    field = service.shared.download_url.field
    url = call.request.get(field) if isinstance(call.request, dict) else None
    folder = f"{call.base_url}{RESULTS}/"
    name = unquote(url.removeprefix(folder)) if isinstance(url, str) and url.startswith(folder) else ""
    if service.result(name) is None:
        raise Refusal("url_wrong")
    until = service.now() + service.shared.download_seconds * 1000
    call.data = f"{url}?{_UNTIL}={until}&{_MARK}={_mark(service, name, str(until))}"


def is_over(service: Service, name: str, query: Mapping[str, str]) -> bool:
    """Tell whether the URL of a download holds no longer, or never did; a result's own URL is none."""
    if _UNTIL not in query:
        return False
    until, mark = query[_UNTIL], query.get(_MARK, "")
    is_ours = compare_digest(_mark(service, name, until).encode(), mark.encode())
    return not is_ours or service.now() >= int(until)


def _mark(service: Service, name: str, until: str) -> str:
    return service.sign(f"{name}/{until}")
