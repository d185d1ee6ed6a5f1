"""The flags of ``seedbed check``: whom to judge, how, and where to write the reports."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from cyclopts import Parameter
from seedbed_schemas import Contract, default_contract, local

from seedbed_contract.judge import TIME_LIMIT, Options
from seedbed_contract.reports import as_json, html, junit, markdown
from seedbed_contract.target import DialectName, HttpStatusName, Target, TargetError, is_loopback, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seedbed_contract.findings import Judgement

KEY_VARIABLE: Final = "SEEDBED_API_KEY"
STANDARD: Final = Path("-")
"""Stands for standard output."""
_MOST_SECONDS: Final = 86_400


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class TargetFlags:
    """Whom to judge.

    Attributes:
        key: A key to the server; else SEEDBED_API_KEY, else for a server on this machine the local fake's own.
        second_key: A key of another account, to see that accounts are kept apart.
        signing_key: What signs the callbacks of the account.
        dialect: Whether it answers as documented or as the service was observed to; auto finds out.
        http_status: Whether HTTP says 200 always, or the code; auto finds out.
        fail_prompt: A prompt that makes a task of this server fail.
        callback_host: Name or address by which the server reaches this machine, where it is not on it.
        require: What the server must have, of credit, callbacks, models, modelSchema, downloadUrl, faults; repeatable.
        spend: Credits that a run may cost where the server is not on this machine.
    """

    key: str | None = None
    second_key: str = ""
    signing_key: str = ""
    dialect: DialectName = "auto"
    http_status: HttpStatusName = "auto"
    fail_prompt: str = ""
    callback_host: str = ""
    require: tuple[str, ...] = ()
    spend: str = "0"

    def target(self, url: str | None) -> Target:
        """Return the target.

        Raises:
            TargetError: There is none, or it cannot be judged like this.
        """
        if not url:
            raise TargetError(f"Which server? Give its URL, such as {local.BASE_URL}, or recorded traffic with --har.")
        return target_of(
            url,
            os.environ.get(KEY_VARIABLE) or _local_key(url) if self.key is None else self.key,
            second_key=self.second_key,
            signing_key=self.signing_key,
            dialect=self.dialect,
            http_status=self.http_status,
            fail_prompt=self.fail_prompt,
            callback_host=self.callback_host,
            required=frozenset(self.require),
            spend=_credits(self.spend),
        )


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """How to judge.

    Attributes:
        contract: Contract to judge by, a file that seedbed derive wrote; by default the shipped one.
        max_examples: How many random requests each search makes.
        time_limit: Seconds that a run may take.
        seed: What decides what is drawn at random; the same seed repeats a run.
        only: Checks to make, by patterns such as 'callbacks.*'; repeatable.
        dry_run: List what would be sent, and send nothing.
        quiet: Show no progress.
    """

    contract: Path | None = None
    max_examples: int = 100
    time_limit: float = TIME_LIMIT
    seed: int = 0
    only: tuple[str, ...] = ()
    dry_run: bool = False
    quiet: bool = False

    def options(self) -> Options:
        """Return how the run goes.

        Raises:
            TargetError: A number is out of range.
            ContractError: The contract is none.
            OSError: The contract cannot be read.
        """
        if self.max_examples < 1:
            raise TargetError("The number of random requests is 1 or more; see --max-examples.")
        if not (math.isfinite(self.time_limit) and 0 < self.time_limit <= _MOST_SECONDS):
            raise TargetError(
                f"The time of a run is more than 0 and at most {_MOST_SECONDS} seconds; see --time-limit."
            )
        contract = Contract.load(self.contract) if self.contract else default_contract()
        options = Options(self.seed, self.max_examples, self.time_limit, self.only, contract)
        options.checks()  # so that a mistaken name is told before anything is sent
        return options


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """Where to write reports; - is standard output.

    Attributes:
        junit: JUnit XML, for CI.
        html: One file to look at.
        json: For programs.
        markdown: For a pull request.
    """

    junit: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    html: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    json: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    markdown: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None

    def check(self) -> None:
        """Refuse two reports that would go to one place.

        Raises:
            TargetError: Two go to the same file, or to standard output.
        """
        paths = [path for path, _ in self.asked_for()]
        for path in paths:
            if paths.count(path) > 1:
                raise TargetError(f"Two reports would go to {path}: give each a place of its own.")

    def asked_for(self) -> Iterator[tuple[Path, Callable[[Judgement], str]]]:
        """Yield each file with what writes its report."""
        forms = (
            (self.junit, junit.report),
            (self.html, html.report),
            (self.json, as_json.report),
            (self.markdown, markdown.report),
        )
        yield from ((path, form) for path, form in forms if path)


def _local_key(url: str) -> str:
    try:
        return local.KEY if is_loopback(urlsplit(url).hostname or "") else ""
    except ValueError:
        return local.KEY  # the URL is refused by name in a moment


def _credits(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise TargetError(f"What may be spent is a number of credits, not {text!r}; see --spend.") from error
