"""Result images: that they are there, are images, and have the size that was asked for."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from seedbed_schemas import job_api
from seedbed_schemas.profile import profile_of

from seedbed_contract.rules.envelope import Defect
from seedbed_contract.rules.task_record import STATES, result_urls
from seedbed_contract.target import OK, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.http import Exchange, TargetResponse
    from seedbed_contract.rules.tracked_task import TrackedTask
    from seedbed_contract.session import Session


_LARGEST_IMAGE: Final = 64 << 20
_RATIO_TOLERANCE: Final = 0.03
_SCALE: Final = (0.62, 1.25)
_ENOUGH: Final = 16
_COARSE: Final = 8
_ASIDE: Final = {"downloadUrl/own": "downloadUrl/own"}
"""Clauses that a result breaks in any way, however it is wrong."""


def are_images(session: Session) -> None:
    """Fetch what the tasks that succeeded give, and look at its size and type."""
    done = [order for order in session.tasks if order.state == STATES.success and order.is_followed]
    if not done:
        session.mark_unchecked("no task was seen to succeed")
    for order in done[:_ENOUGH]:
        for url in result_urls(order.record):
            judge_image(session, url, order, order.polls[-1][1])


def judge_image(session: Session, url: str, order: TrackedTask, shown: Exchange, clause: str = "results/given") -> None:
    """Fetch a result and judge it.

    Args:
        session: The run.
        url: Where it is said to be.
        order: The task whose result it is.
        shown: The exchange that told of the URL.
        clause: The clause that a URL breaks at which nothing is.
    """
    host = urlsplit(url).hostname if url.startswith(("http://", "https://")) else None
    if host is None:
        session.report([Defect(clause, "the URL of a result is not one that can be fetched")], shown)
        return
    if session.target.is_local and not is_loopback(host):
        session.mark_unchecked("results are on another host, and a local target shall not make one call strangers")
        return
    exchange = session.transport.fetch(url, _LARGEST_IMAGE)
    session.exercise(clause, "results/given", "results/image", "results/size")
    answer = exchange.response
    if answer is None or answer.status != OK:
        what = f"HTTP {answer.status}" if answer else "nothing"
        session.report([Defect(clause, f"the URL of a result answers {what}")], exchange, order.name)
        return
    flaws = _image_flaws(answer, _due_size(session, order))
    session.report((Defect(_ASIDE.get(clause, flaw.clause), flaw.title) for flaw in flaws), exchange, order.name)


def _due_size(session: Session, order: TrackedTask) -> tuple[int, int] | None:
    """Return the size that was asked for, ``None`` where nobody knows it."""
    profile, given = profile_of(session.builder.contract), order.request.get(job_api().fields.input)
    return profile.size(given) if profile.pixels and isinstance(given, dict) else None


def _image_flaws(answer: TargetResponse, due: tuple[int, int] | None) -> Iterator[Defect]:
    kind, size = _opened(answer.body)
    if not kind:
        yield Defect("results/image", "a result is no image")
        return
    if answer.media_type not in _media_types(kind):
        yield Defect("results/image", f"a result is {kind} and says that it is {answer.media_type or 'nothing'}")
    if due:
        yield from _size_flaws(size, due)


def _size_flaws(size: tuple[int, int], due: tuple[int, int]) -> Iterator[Defect]:
    """Yield what is wrong with a size; what 2K is depends on whom one asks, so the pixels may differ somewhat."""
    (width, height), (due_width, due_height) = size, due
    if abs((width / height) / (due_width / due_height) - 1) > _RATIO_TOLERANCE:
        yield Defect("results/size", "an image has another width to height than was asked for")
    least, most = _SCALE
    if not least <= math.sqrt(width * height / (due_width * due_height)) <= most:
        yield Defect("results/size", "an image has another resolution than was asked for")


def _opened(body: bytes) -> tuple[str, tuple[int, int]]:
    """Return the format and the size of an image, nothing where it is none."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 (loading it takes long)

    damaged = (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError)
    with suppress(*damaged), Image.open(io.BytesIO(body)) as image:
        kind, size = str(image.format), image.size
        image.draft(None, (size[0] // _COARSE, size[1] // _COARSE))  # all of it is read, at a fraction of the cost
        image.load()
        return kind, size
    return "", (0, 0)


def _media_types(kind: str) -> set[str]:
    names = {"JPEG": {"image/jpeg", "image/jpg"}, "MPO": {"image/jpeg"}}
    return names.get(kind, {f"image/{kind.lower()}"})
