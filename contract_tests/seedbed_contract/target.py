"""The target of a run, and the expectations on its responses."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from seedbed_schemas import Schema, default_contract, job_api, local

if TYPE_CHECKING:
    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect


DialectName = Literal["documented", "observed", "auto"]
HttpStatus = Literal["envelope", "mirror"]
HttpStatusName = Literal["envelope", "mirror", "auto"]

OK: Final = 200
"""HTTP status of every response in envelope mode."""
CAPABILITIES: Final = ("credit", "callbacks", "models", "modelSchema", "downloadUrl", "faults")
"""Capabilities that a target may have; ``--require`` names those that it must have."""

_URI: Final = Schema({"type": "string", "format": "uri"}, name="URL")
_MAX_KEY: Final = 4096
_SIGNATURE_CLAUSES: Final = frozenset({"callback/signature", "callback/timestamp"})
_CODE: Final = "{code}"
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[!-~](?:[ \t!-~]*[!-~])?")
_LAST_PORT: Final = 65_535


class TargetError(ValueError):
    """An invalid target or option; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server to check, and what is known about it. Its representation does not contain the keys.

    Attributes:
        base_url: Base URL without a slash at the end.
        key: API key.
        second_key: API key of another account; empty if there is none.
        signing_key: Key that signs the callbacks of the first account; empty if it is unknown.
        dialect: Dialect of the server, or ``auto`` to detect it.
        http_status: HTTP status mode of the server, or ``auto`` to detect it.
        fail_prompt: A prompt that makes a task fail; empty if none is known.
        callback_host: Host name or address of this machine, as the server sees it.
        spend: Credits that a run may spend if the server is not on this machine.
        required: Capabilities that the server must have.
        force_with: Header that makes the server respond with a code, such as ``Authorization: Bearer force-{code}``.
        absent: Capabilities that the server is declared not to have, so that they are not checked.
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
    force_with: str = ""
    absent: frozenset[str] = frozenset()

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, where tasks cost nothing."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def spend_limit(self) -> Decimal | None:
        """Credits that a run may spend; ``None`` if tasks cost nothing."""
        return None if self.is_local else self.spend

    def forcing_header(self, code: int) -> tuple[str, str]:
        """Return the header that makes the server respond with a code."""
        name, _, value = self.force_with.partition(":")
        return name.strip(), value.strip().replace(_CODE, str(code))

    @property
    def secrets(self) -> dict[str, str]:
        """The keys, each with the shell variable that stands for it in curl commands."""
        variables = {
            self.key: "SEEDBED_API_KEY",
            self.second_key: "SEEDBED_SECOND_KEY",
            self.signing_key: "SEEDBED_SIGNING_KEY",
        }
        return {secret: variable for secret, variable in variables.items() if secret}


def target_of(base_url: str, key: str, **known: Any) -> Target:
    """Return a target after checking its values.

    Args:
        base_url: Base URL of the server.
        key: API key.
        known: Other attributes of :class:`Target`.

    Raises:
        TargetError: The URL is invalid, a key cannot be sent, or a required capability is unknown.
    """
    target = Target(_checked_url(base_url), key, **known)
    for secret in target.secrets:
        if len(secret) > _MAX_KEY:
            raise TargetError(f"A key has {len(secret)} characters; at most {_MAX_KEY} are allowed.")
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            raise TargetError("A key must consist of visible ASCII characters without spaces.")
    if not key:
        raise TargetError("The key is missing. Pass --key, or set SEEDBED_API_KEY.")
    if target.force_with and not (
        _HEADER.fullmatch(target.force_with) and _CODE in target.force_with.partition(":")[2]
    ):
        raise TargetError(
            f"--force-with must be a header with {_CODE} in its value, such as 'Authorization: Bearer force-{_CODE}', "
            f"not {target.force_with!r}."
        )
    if target.second_key == key:
        raise TargetError("The second key equals the first. Pass the key of another account, or omit --second-key.")
    _check_capabilities(target)
    if not (target.spend.is_finite() and target.spend >= 0):
        raise TargetError(f"--spend must be 0 or more credits, not {target.spend}.")
    return target


def _check_capabilities(target: Target) -> None:
    for option, names in (("--require", target.required), ("--without", target.absent)):
        if unknown := sorted(names.difference(CAPABILITIES)):
            known = ", ".join(CAPABILITIES)
            raise TargetError(f"Unknown capability {unknown[0]!r} for {option}. Capabilities: {known}.")
    if both := sorted(target.required & target.absent):
        raise TargetError(f"{both[0]} is passed to both --require and --without. Pass it to one of them.")


def check_resolves(base_url: str) -> None:
    """Look up the host name of a URL.

    Raises:
        TargetError: The URL is invalid, or the name has no address.
    """
    url = urlsplit(_checked_url(base_url))
    host = url.hostname or ""
    try:
        socket.getaddrinfo(host, url.port or url.scheme, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TargetError(f"The host name {host!r} cannot be resolved. Check the URL.") from error


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is that of this machine, without looking it up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def _checked_url(text: str) -> str:
    problem = f"{text!r} is not a valid URL of a server; use a URL such as {local.BASE_URL}."
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
        # It would appear in reports and in the process list.
        raise TargetError("The URL must not contain a user name or password. Pass the key with --key.")
    return text.rstrip("/")


@dataclass(frozen=True, slots=True)
class Expectations:
    """Expectations on the responses of a target.

    Attributes:
        contract: The contract.
        dialect: Dialect of the target.
        http_status: HTTP status mode of the target.
        is_dialect_given: Whether the user named the dialect. A detected dialect allows a mixture of both.
    """

    contract: Contract
    dialect: Dialect
    http_status: HttpStatus
    is_dialect_given: bool = True

    @property
    def success(self) -> int:
        """Code of a successful call."""
        return min(self.codes("done"))

    def codes(self, *cases: str) -> frozenset[int]:
        """Return the codes that the dialect allows for any of the cases."""
        # A page may omit a code from its table; the service responds with it all the same.
        by_name = {**default_contract().codes_by_name, **self.contract.codes_by_name}
        return frozenset().union(*(self.dialect.cases[case].numbers(by_name) for case in cases))

    def may_be_accepted(self, request: Any) -> bool:
        """Return whether a service of this dialect may take an invalid request for the valid one that it stands for."""
        return self.contract.request.accepts(self.dialect.meant(request, self.contract))

    def codes_of_violation(self, clause: str) -> frozenset[int]:
        """Return the codes for a request that breaks a clause."""
        field, keyword = clause.split("/")[:2]
        model = job_api().fields.model
        if field == model and keyword in {"const", "enum"}:
            return self.codes("model_unknown")
        if clause == f"request/required/{model}":
            return self.codes("model_unknown", self.dialect.case_of_violation(keyword))
        # A request that is not an object, or whose model is not a string, has no model to look up either.
        if field in {"request", model}:
            return self.codes("model_unknown", "request_invalid", "body_malformed")
        return self.codes(self.dialect.case_of_violation(keyword))

    def absent_clauses(self, signing_key: str) -> frozenset[str]:
        """Return the shared clauses that no message of the target can exercise.

        They are about fields that the dialect does not have, and about signatures if no signing key is known.

        Args:
            signing_key: Key that signs the callbacks of the account; empty if it is unknown.
        """
        absent = set()
        for clause in job_api().clauses():
            shape, _, rest = clause.id.partition("/")
            field = rest.partition("/")[0]
            if shape == "record" and clause.kind != "behaviour" and not self.dialect.has_field(field):
                absent.add(clause.id)
        return frozenset(absent) | (frozenset() if signing_key else _SIGNATURE_CLAUSES)

    @property
    def all_codes(self) -> frozenset[int]:
        """All codes that a response may have: those of the page, and those of the dialect."""
        documented = {code.number for code in self.contract.codes}
        return self.codes(*self.dialect.cases).union(documented)
