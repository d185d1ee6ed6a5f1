"""The flags of ``seedbed generate``: what to make, how to go about it, and what to tell of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter
from seedbed_schemas import Contract, default_contract
from seedbed_schemas.profile import profile_of

from seedbed_client.errors import ConfigurationError
from seedbed_client.ledger import Job
from seedbed_client.options import parse_fields
from seedbed_client.rhythm import ADVISED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STANDARD_INPUT: Final = "-"


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class JobFlags:
    """What to make.

    Attributes:
        source: File of prompts, a line each; - for standard input.
        contract: Contract of the model to ask, a file that seedbed derive wrote; by default the shipped one.
        field: A field of the input as NAME=VALUE, for those that have no flag here; may be repeated.
    """

    source: Annotated[str | None, Parameter(name="--from", allow_leading_hyphen=True)] = None
    contract: Path | None = None
    field: tuple[str, ...] = ()

    def model(self) -> Contract:
        """Return the contract of the model.

        Raises:
            ContractError: The file is none.
            OSError: It cannot be read.
        """
        return Contract.load(self.contract) if self.contract else default_contract()

    def jobs(self, prompts: tuple[str, ...], contract: Contract, options: Mapping[str, object]) -> list[Job]:
        """Return a job for each prompt, and for each line of the file that is named.

        Raises:
            ConfigurationError: A prompt or a field cannot be read.
            OSError: The file cannot be read.
        """
        fields = {**options, **parse_fields(self.field, contract)}
        given = {name: value for name, value in fields.items() if value is not None}
        caption = profile_of(contract).caption
        every = [*prompts, *(_lines(self.source) if self.source is not None else ())]
        return [Job(_text(prompt), {**({caption: prompt} if caption else {}), **given}) for prompt in every]


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """How to go about it.

    Attributes:
        output: Name of an image, in which {task_id}, {index} (or {index:03}) and {prompt} stand for what they name; by
            default {task_id}.jpg, or that of the run that goes on.
        resume: File in which to note how far the images have come, and from which to go on if it is there.
        at_once: How many images to have made at the same time.
        timeout: Seconds after which to give up a task; by default 15 minutes.
    """

    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None
    resume: Path | None = None
    at_once: int = 10
    timeout: float | None = None

    def check(self) -> None:
        """Find out whether these can be used.

        Raises:
            ConfigurationError: One of them cannot.
        """
        ADVISED.patience(self.timeout)
        _text(self.output or "")


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """What to tell of it.

    Attributes:
        as_json: Print a line of JSON for each image.
        preview: Show the images in the terminal, if it can (pip install 'seedbed[preview]').
    """

    as_json: Annotated[bool, Parameter(name="--json")] = False
    preview: bool = False


def _lines(source: str) -> Iterator[str]:
    try:
        text = sys.stdin.read() if source == _STANDARD_INPUT else Path(source).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source} is no text in UTF-8.") from error
    yield from (line.strip() for line in text.splitlines() if line.strip())


def _text(word: str) -> str:
    """Return a word of the command line, which may hold bytes that are no text."""
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{word!a} is no text in UTF-8.") from error
    return word
