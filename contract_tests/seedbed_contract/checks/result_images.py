"""Checks of result images: they exist, are images, and have the requested size."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from seedbed_schemas import job_api
from seedbed_schemas.profile import profile_of
from seedbed_schemas.validation import for_display

from seedbed_contract.rules.envelope import Defect
from seedbed_contract.rules.task_record import STATES, result_urls
from seedbed_contract.target import OK, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.http import Exchange, TargetResponse
    from seedbed_contract.rules.task_record import TrackedTask
    from seedbed_contract.session import Session


_LARGEST_IMAGE: Final = 64 << 20
_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TASKS: Final = 16
_RATIO_TOLERANCE: Final = 0.03
# The page names resolutions such as 2K, for which services use different numbers of pixels.
_SCALE_TOLERANCE: Final = (0.62, 1.25)
_DRAFT_SCALE: Final = 8
_OTHER_MEDIA: Final = ("video", "audio", "application")
_NOT_MEDIA: Final = ("application/json", "application/xml", "application/xhtml+xml")
_MEDIA_TYPES: Final = {"JPEG": {"image/jpeg", "image/jpg"}, "MPO": {"image/jpeg"}}


def check_images(session: Session) -> None:
    """Fetch the results of the tasks that succeeded and check their type and size."""
    succeeded = [task for task in session.tasks if task.state == STATES.success and task.is_followed]
    if not succeeded:
        session.mark_unchecked("no task succeeded")
    images = profile_of(session.builder.contract).images
    for task in succeeded[:_TASKS]:
        urls = result_urls(task.record)
        if images and urls and len(urls) != images:
            title = f"a task has {len(urls)} results and not {images}"
            session.report([Defect("results/count", title, kind="count")], task.polls[-1][1], task.name)
        for url in urls:
            session.exercise("results/count")
            check_image(session, url, task, task.polls[-1][1])
    if succeeded and not session.log.has_finding("results/given"):
        for url in result_urls(succeeded[0].record):
            _check_again(session, url)


def _check_again(session: Session, url: str) -> None:
    """Fetch a result that was fetched before: clients repeat a download that broke off."""
    exchange = _fetch(session, url)
    if exchange and not (exchange.response and exchange.response.status == OK and exchange.response.body):
        session.report([Defect("results/given", "a result can be fetched only once")], exchange)


def _fetch(session: Session, url: str) -> Exchange | None:
    """Fetch a URL, which may lead to the storage of the service; return ``None`` if that may not be contacted.

    A test of a local server must not make this machine call any host that the server names.
    """
    exchange: Exchange | None = None
    exchange = None
    for _ in range(_MOST_REDIRECTS):
        if session.target.is_local and not is_loopback(urlsplit(url).hostname or ""):
            session.mark_unchecked("the results of the local target are on another host, which is not contacted")
            return None
        exchange = session.transport.fetch(url, _LARGEST_IMAGE)
        response = exchange.response
        location = response.header("location") if response and response.status in _REDIRECTS else ""
        url = urljoin(url, location)
        if not location or not url.startswith(("http://", "https://")):
            break
    return exchange


def check_image(session: Session, url: str, task: TrackedTask, source: Exchange, clause: str = "results/given") -> None:
    """Fetch a result and check it.

    Args:
        session: The session of the run.
        url: The URL of the result.
        task: The task that made the result.
        source: The exchange that returned the URL.
        clause: The clause that demands a result at the URL.
    """
    host = urlsplit(url).hostname if url.startswith(("http://", "https://")) else None
    if host is None:
        session.report([Defect(clause, "the URL of a result is not an HTTP URL")], source)
        return
    exchange = _fetch(session, url)
    if exchange is None:
        return
    session.exercise(clause, "results/given", "results/image", "results/size")
    response = exchange.response
    if response is None or response.status != OK:
        outcome = f"returns HTTP {response.status}" if response else "gets no response"
        session.report([Defect(clause, f"the URL of a result {outcome}")], exchange, task.name)
        return
    profile, inputs = profile_of(session.builder.contract), task.request.get(job_api().fields.input)
    # A model without known sizes may return any.
    requested = profile.size(inputs) if profile.pixels and isinstance(inputs, dict) else None
    defects = image_defects(response, requested, is_image=profile.media == "image")
    if clause == "downloadUrl/own":
        # The result itself was checked before; a wrong image is a defect of the download URL.
        defects = (defect._replace(clause=clause) for defect in defects)
    session.report(defects, exchange, task.name)


def image_defects(
    response: TargetResponse, requested: tuple[int, int] | None, *, is_image: bool = True
) -> Iterator[Defect]:
    """Yield the defects of a result.

    Args:
        response: The response with the result.
        requested: The requested width and height, if they are known.
        is_image: Whether the result has to be an image. Other models may make videos or sound, which are not decoded.
    """
    kind, (width, height) = _open(response.body)
    if not kind:
        if is_image:
            yield Defect("results/image", "a result is not an image")
        elif not response.body or not _may_be_media(response.media_type):
            declared = for_display(response.media_type) or "no media type"
            yield Defect("results/image", f"a result is not a media file: {len(response.body)} bytes of {declared}")
        return
    if response.media_type not in _MEDIA_TYPES.get(kind, {f"image/{kind.lower()}"}):
        declared = f"the media type {response.media_type}" if response.media_type else "no media type"
        yield Defect("results/image", f"a {kind} result has {declared}")
    if not requested:
        return
    requested_width, requested_height = requested
    if abs((width / height) / (requested_width / requested_height) - 1) > _RATIO_TOLERANCE:
        yield Defect("results/size", "an image has another aspect ratio than the requested one")
    least, most = _SCALE_TOLERANCE
    if not least <= math.sqrt(width * height / (requested_width * requested_height)) <= most:
        yield Defect("results/size", "an image has another resolution than the requested one")


def _may_be_media(media_type: str) -> bool:
    return media_type.partition("/")[0] in _OTHER_MEDIA and media_type not in _NOT_MEDIA


def _open(body: bytes) -> tuple[str, tuple[int, int]]:
    """Return the format and size of an image, and an empty format for a body that is not a complete image."""
    from PIL import Image, UnidentifiedImageError  # loading it takes long

    damaged = (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError)
    with suppress(*damaged), Image.open(io.BytesIO(body)) as image:
        kind, size = str(image.format), image.size
        # Loading finds a truncated file; a draft reads all of it at a fraction of the cost.
        image.draft(None, (size[0] // _DRAFT_SCALE, size[1] // _DRAFT_SCALE))
        image.load()
        return kind, size
    return "", (0, 0)
