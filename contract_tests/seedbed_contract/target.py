"""Whom a report is about, and what it may cost."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from seedbed_schemas import Schema, default_contract, job_api, local

if TYPE_CHECKING:
    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect


DialectName = Literal["documented", "observed", "auto"]
HttpStatusName = Literal["envelope", "mirror", "auto"]

OPTIONAL: Final = ("credit", "callbacks", "models", "modelSchema", "downloadUrl", "faults")
"""What a target need not have, unless it is required by name."""

_URI: Final = Schema({"type": "string", "format": "uri"}, name="URL")
_LONGEST_KEY: Final = 4096
_LAST_PORT: Final = 65_535


class TargetError(ValueError):
    """A target cannot be judged like this; the message is one sentence that tells why and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server that claims to be the service, and what is known of it.

    Attributes:
        base_url: Where it is, without a slash at the end.
        key: Key to let in; not shown.
        second_key: Key of another account, empty where there is none; not shown.
        signing_key: What signs the callbacks of the first account, empty where that is not known; not shown.
        dialect: How it is said to answer, or ``auto``.
        http_status: How it is said to carry codes, or ``auto``.
        fail_prompt: A prompt that makes its tasks fail, empty where none is known.
        callback_host: Name or address by which it reaches this machine.
        spend: Credits that may be spent where it is not on this machine.
        required: Operations that it must have.
    """

    base_url: str
    key: str = field(repr=False)
    second_key: str = field(default="", repr=False)
    signing_key: str = field(default="", repr=False)
    dialect: DialectName = "auto"
    http_status: HttpStatusName = "auto"
    fail_prompt: str = ""
    callback_host: str = ""
    spend: Decimal = Decimal(0)
    required: frozenset[str] = frozenset()

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, where tasks cost nothing."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def most(self) -> Decimal | None:
        """Credits that a run may spend, ``None`` where they cost nothing."""
        return None if self.is_local else self.spend

    @property
    def secrets(self) -> dict[str, str]:
        """Name of the shell variable by the key that it stands for."""
        named = {
            self.key: "SEEDBED_API_KEY",
            self.second_key: "SEEDBED_SECOND_KEY",
            self.signing_key: "SEEDBED_SIGNING_KEY",
        }
        return {secret: variable for secret, variable in named.items() if secret}


def target_of(base_url: str, key: str, **known: Any) -> Target:
    """Return a target.

    Args:
        base_url: Where it is.
        key: Key to let in.
        known: What else is known, as :class:`Target` has it.

    Raises:
        TargetError: The URL is none, a key cannot be sent, or what is required is unknown.
    """
    target = Target(_checked_url(base_url), key, **known)
    for secret in target.secrets:
        if len(secret) > _LONGEST_KEY:
            raise TargetError(f"A key has at most {_LONGEST_KEY} characters, not {len(secret)}.")
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            raise TargetError("A key is made of visible ASCII characters without spaces.")
    if not key:
        raise TargetError("A target needs a key: give one with --key, or set SEEDBED_API_KEY.")
    if target.second_key == key:
        raise TargetError("The second key is the first: give the key of another account, or none.")
    if unknown := sorted(target.required.difference(OPTIONAL)):
        raise TargetError(f"There is nothing called {unknown[0]!r} to require. Known: {', '.join(OPTIONAL)}.")
    if not (target.spend.is_finite() and target.spend >= 0):
        raise TargetError("What may be spent is a number of credits, 0 or more.")
    return target


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its name or address alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def _checked_url(text: str) -> str:
    problem = f"{text!r} is not the URL of a service; one looks like {local.BASE_URL}."
    if not _URI.accepts(text):
        raise TargetError(problem)
    try:
        url = urlsplit(text)
        port = url.port or 0
    except ValueError as error:
        raise TargetError(problem) from error
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment or port > _LAST_PORT:
        raise TargetError(problem)
    if url.username is not None:
        raise TargetError("The URL of a service holds no user name: a key is given with --key.")
    return text.rstrip("/")


HttpStatus = Literal["envelope", "mirror"]

OK: Final = 200
"""HTTP status of every answer in the envelope."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What a target's answers are held against.

    Attributes:
        contract: The contract.
        dialect: How the target answers.
        http_status: How it carries codes.
        is_dialect_given: Whether the dialect was named; where it was found out, a mixture of both is let pass.
    """

    contract: Contract
    dialect: Dialect
    http_status: HttpStatus
    is_dialect_given: bool = True

    @property
    def success(self) -> int:
        """The code of a call that did what it was asked to."""
        return self.contract.code_named("success").number

    def codes(self, *cases: str) -> frozenset[int]:
        """Return the codes with which any of these cases may be answered."""
        # A page that leaves a code out of its table does not change what the service answers.
        by_name = {**default_contract().codes_by_name, **self.contract.codes_by_name}
        return frozenset().union(*(self.dialect.cases[case].numbers(by_name) for case in cases))

    def codes_of_violation(self, clause: str) -> frozenset[int]:
        """Return the codes with which a request may be refused that breaks a clause."""
        field, keyword = clause.split("/")[:2]
        model = job_api().fields.model
        if field == model and keyword in {"const", "enum"}:
            return self.codes("model_unknown")
        if clause == f"request/required/{model}":
            return self.codes("model_unknown", self.dialect.case_of_violation(keyword))
        if field in {"request", model}:
            return self.codes("model_unknown", "request_invalid", "body_malformed")
        return self.codes(self.dialect.case_of_violation(keyword))

    @property
    def all_codes(self) -> frozenset[int]:
        """Every code that may travel at all: those of the page, and what stands for them in the dialect."""
        documented = {code.number for code in self.contract.codes}
        return self.codes(*self.dialect.cases).union(documented)
