"""The command ``seedbed callbacks test``: it sends a receiver callbacks of every shape and reports how it responds."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from seedbed_schemas import commands, job_api
from seedbed_schemas.commands import JsonFlag
from seedbed_schemas.dialect import dialects

from seedbed_mock.callbacks.sender import DeliveryError, UnreachableError, send_and_leave, send_callback
from seedbed_mock.callbacks.shapes import (
    CONTROL,
    NOT_VISIBLE,
    SHAPES,
    CallbackMaker,
    CallbackShape,
    Reaction,
    ShapedRequest,
    ShapeVerdict,
)
from seedbed_mock.callbacks.targets import AllowList, TargetRefusedError, UnknownTargetError, resolve
from seedbed_mock.clock import real_monotonic, real_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedbed_mock.callbacks.targets import CallbackTarget


_TIMEOUT: Final = job_api().callback.timeout
_ANYWHERE: Final = AllowList.parse(["0.0.0.0/0", "::/0"])
"""The user names the receiver, so that any address is allowed that can be one at all."""

_PIECES: Final = 20
_SLOW_SECONDS: Final = 2.0
_COMMAND: Final = "callbacks test"
_STYLES: Final = {"passed": "green", "failed": "bold red", "not judged": "yellow"}


class ExaminationError(Exception):
    """The receiver cannot be examined; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class ShapeResult:
    """What came of one shape.

    Attributes:
        shape: Name of the shape.
        about: What was sent.
        expected: Which responses are right.
        verdict: The verdict.
        reactions: The responses, in the order of the requests.
        reason: Why it failed or could not be judged, in one sentence; empty if it passed.
    """

    shape: str
    about: str
    expected: str
    verdict: ShapeVerdict
    reactions: tuple[Reaction, ...] = ()
    reason: str = ""


async def examine(
    url: str, *, signing_key: str = "", task_ids: Sequence[str] = (), slow_seconds: float
) -> list[ShapeResult]:
    """Send a receiver callbacks of every shape, and return what came of each.

    Without a correct response to a good callback nothing can be concluded, so that the other shapes are not sent.

    Args:
        url: URL of the receiver.
        signing_key: Key that signs the callbacks; without one, the shapes that need a signature are not judged.
        task_ids: IDs of tasks that the receiver knows; by default, IDs are invented.
        slow_seconds: How long the slow sender takes.

    Raises:
        ExaminationError: The URL is invalid, or nothing listens there.
    """
    try:
        target = await resolve(url, _ANYWHERE)
    except (TargetRefusedError, UnknownTargetError) as error:
        raise ExaminationError(str(error)) from error
    example = dialects()["documented"].task_id
    invented = [
        example.format(family="seedream", milliseconds=round(real_time() * 1000) + number, hex=token_hex(16))
        for number in range(3)
    ]
    results: list[ShapeResult] = []
    for shape in SHAPES:
        if shape.needs_key and not signing_key:
            reason = "It needs a signature; pass --signing-key."
            results.append(ShapeResult(shape.name, shape.about, shape.expected, "not judged", (), reason))
            continue
        maker = CallbackMaker(signing_key, task_ids or invented[:2], invented[2], round(real_time() * 1000))
        reactions = await _reactions(target, shape, maker, slow_seconds)
        if shape is CONTROL and reactions[0].is_unreachable:
            raise ExaminationError(f"{reactions[0].error} Start the receiver first.")
        verdict = shape.judge(reactions)
        reason = "" if verdict == "passed" else shape.reason(reactions)
        results.append(ShapeResult(shape.name, shape.about, shape.expected, verdict, tuple(reactions), reason))
        if shape is CONTROL and verdict == "failed":
            return [*results, *map(_unsent, SHAPES[1:])]
    return results


def _unsent(shape: CallbackShape) -> ShapeResult:
    reason = "The receiver does not accept a good callback, so that nothing can be concluded."
    return ShapeResult(shape.name, shape.about, shape.expected, "not judged", (), reason)


async def _reactions(
    target: CallbackTarget, shape: CallbackShape, maker: CallbackMaker, slow_seconds: float
) -> list[Reaction]:
    requests = [_send(target, request, slow_seconds) for request in shape.make(maker)]
    if shape.is_simultaneous:
        return await asyncio.gather(*requests)
    return [await request for request in requests]


async def _send(target: CallbackTarget, request: ShapedRequest, slow_seconds: float) -> Reaction:
    started, status, error, is_unreachable = real_monotonic(), None, "", False
    pieces = _PIECES if request.manner == "in pieces" else 1
    try:
        async with asyncio.timeout(_TIMEOUT + (slow_seconds if pieces > 1 else 0)):
            if request.manner == "without waiting":
                await send_and_leave(target, request.body, request.headers)
            else:
                pause = slow_seconds / pieces
                answer = await send_callback(target, request.body, request.headers, pieces=pieces, pause=pause)
                status = answer.status
    except TimeoutError:
        error = f"no response within {_TIMEOUT:g} seconds"
    except DeliveryError as problem:
        error, is_unreachable = str(problem), isinstance(problem, UnreachableError)
    return Reaction(status, round((real_monotonic() - started) * 1000), error, is_unreachable)


# The command

_KeyParameter = Annotated[str, Parameter(name="--signing-key", show_default=False)]
_IdsParameter = Annotated[tuple[str, ...], Parameter(name="--task-id", negative="", show_default=False)]
_JsonFile = Annotated[Path | None, Parameter(name="--json-file", show_default=False)]


def examine_receiver(
    url: str,
    /,
    *,
    signing_key: _KeyParameter = "",
    task_id: _IdsParameter = (),
    json_file: _JsonFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Send a receiver callbacks of every shape, and show which ones it handles correctly.

    Args:
        url: URL of the receiver.
        signing_key: Key with which the receiver verifies callbacks.
        task_id: ID of a task that the receiver knows, if it accepts no others. Repeatable.
        json_file: File to write the results to as JSON.
        as_json: Print the results as JSON.
    """
    if not re.fullmatch(r"(?i:https?)://.*", url):
        return commands.fail(_COMMAND, f"invalid URL {url!r}; use one such as http://127.0.0.1:8000/callbacks")
    try:
        results = asyncio.run(examine(url, signing_key=signing_key, task_ids=task_id, slow_seconds=_SLOW_SECONDS))
    except ExaminationError as error:
        return commands.fail(_COMMAND, str(error))
    found = {"url": url, "shapes": msgspec.to_builtins(results)}
    if json_file:
        try:
            json_file.write_text(commands.json_text(found, indent=2), encoding="utf-8")
        except OSError as error:
            return commands.fail(_COMMAND, f"{json_file}: {error.strerror}")
    if as_json:
        commands.print_json(found, indent=2)
    else:
        show_results(results, Console(file=sys.stdout, highlight=False))
    return int(any(each.verdict == "failed" for each in results))


def show_results(results: Sequence[ShapeResult], console: Console) -> None:
    """Print a table of the results, what is wrong with those that failed, and the verdict as the last line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    # On a narrow terminal the sentences are wrapped, and the names are not.
    table.add_column("Shape", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Response")
    for each in results:
        responses = "; ".join(reaction.describe() for reaction in each.reactions) or "not sent"
        table.add_row(each.shape, f"[{_STYLES[each.verdict]}]{each.verdict}[/]", responses)
    console.print(table)
    failed = [each for each in results if each.verdict == "failed"]
    for each in failed:
        expected = {"accept": "2xx", "refuse": "4xx", "survive": "no 5xx", "accept later": "2xx or a retry"}
        console.print(f"\n[bold]{each.shape}[/]: {each.about}; expected {expected[each.expected]}. {each.reason}")
    if failed and failed[0].shape == CONTROL.name:
        console.print("\nIf the receiver accepts only tasks that it knows, pass --task-id.")
    reasons = dict.fromkeys(each.reason for each in results if each.verdict == "not judged")
    for reason in reasons:
        number = sum(each.reason == reason for each in results)
        console.print(f"\n{number} shape{'s' if number > 1 else ''} not judged. {reason}")
    console.print(f"\n{NOT_VISIBLE}")
    passed = sum(each.verdict == "passed" for each in results)
    console.print(f"\n{passed} passed, {len(failed)} failed, {len(results) - passed - len(failed)} not judged.")
