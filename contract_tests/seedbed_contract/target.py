"""Whom a judgement is about, and what it may cost."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from seedbed_schemas import Schema, local

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
