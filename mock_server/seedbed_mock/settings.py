"""Values that the options of a server are made of: rates, time spans, credits, keys, and how they are written."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from seedbed_schemas import local

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random


CONTROL_ROOT: Final = local.CONTROL_ROOT
"""Path prefix of the control API."""

HttpStatus = Literal["envelope", "mirror"]
"""``envelope``: HTTP 200 with the code in the body; ``mirror``: the code is the HTTP status too."""

SigningTime = Literal["real", "clock"]
"""``real``: the time of the process; ``clock``: the time of the server's clock, which a test may have advanced."""

Egress = Literal["allow", "deny"]
"""What a proxy does with connections to hosts that are not intercepted."""

ClockKind = Literal["real", "manual", "follow", "auto"]
"""``real``: time passes by itself; ``manual``: only when the clock is advanced; ``follow``: as a test sets it;
``auto``: by itself, and at once to the next event when all clients wait."""

# Fifteen digits are what a float represents exactly.
NUMBER: Final = r"\d{1,15}(?:\.\d{1,9})?"
"""Pattern of a number that is not negative."""

_LARGEST_PORT: Final = 65_535

# Ten digits in all are far from the 28 significant digits to which Decimal is exact by default.
MOST_CREDITS: Final = 10**9


MISSING_AGENT_EXTRA: Final = "The interface for agents is not installed; install it with pip install 'seedbed[mcp]'."
"""What is said where the MCP SDK is missing."""


class SettingsError(ValueError):
    """An option is invalid; the message says which values are valid."""


def state_folder() -> Path:
    """Return the folder for what outlives a server: ``seedbed`` in ``XDG_STATE_HOME``, or in ``~/.local/state``."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    # A relative path is invalid and ignored, as the XDG specification says.
    return (home if home.is_absolute() else Path.home() / ".local" / "state") / "seedbed"


@lru_cache(256)
def base_url(host: str, port: int | None, scheme: str = "http", root_path: str = "") -> str:
    """Return the URL of a server.

    Args:
        host: Its host name or address.
        port: Its port, ``None`` if it is not known.
        scheme: Its scheme.
        root_path: Path below which it is served, without a slash at its end.
    """
    # A socket for both versions of IP shows a peer of IPv4 as ::ffff:127.0.0.1.
    host = host.removeprefix("::ffff:") if "." in host else host
    return f"{scheme}://{netloc(host, port)}{root_path.rstrip('/')}"


def netloc(host: str, port: int | None = None) -> str:
    """Return a host name or an address, and a port if there is one, as they stand in a URL."""
    return f"{f'[{host}]' if ':' in host else host}{'' if port is None else f':{port}'}"


# A value of Host, in lower case. A dot at the end of a name is the root of DNS.
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?)\.?)(?::(\d{1,5}))?")


@lru_cache(256)
def split_host(text: str) -> tuple[str, int | None] | None:
    """Return the name or address in a host with or without a port, in lower case and without brackets, and its port.

    ``None`` stands for a text that is no host.
    """
    match = _HOST.fullmatch(text.lower())
    if not match or not match[3]:
        return (match[1] or match[2], None) if match else None
    return (match[1] or match[2], int(match[3])) if 0 < int(match[3]) <= _LARGEST_PORT else None


def parse_allowed_host(text: str) -> str:
    """Return a host name or an address of the server, in lower case, with a port if the text has one.

    Raises:
        SettingsError: The text is not a host name, an address or ``*``.
    """
    if text == "*":
        return text
    is_bare_address = text.count(":") > 1 and not text.startswith("[")
    parts = split_host(f"[{text}]" if is_bare_address else text)
    if parts is None:
        raise SettingsError(
            f"Invalid host {text!r}; use a name or an address without a scheme, such as seedbed or seedbed:8721, or *."
        )
    return parts[0] if parts[1] is None else netloc(*parts)


def parse_origin(text: str) -> str:
    """Return the origin of a web page as browsers send it: in lower case, without the default port of its scheme.

    Raises:
        SettingsError: The text is not an origin or ``*``.
    """
    match = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([^/?#@\s]+)/?", text.lower())
    parts = split_host(match[2]) if match else None
    if text == "*":
        return text
    if match is None or parts is None:
        raise SettingsError(
            f"Invalid origin {text!r}; use a scheme and a host without a path, such as http://localhost:3000, or * for "
            "any."
        )
    default = {"http": 80, "https": 443}.get(match[1])
    return base_url(parts[0], None if parts[1] == default else parts[1], match[1])


def parse_public_url(text: str) -> str:
    """Return the URL at which clients reach the server, without a slash at its end.

    Raises:
        SettingsError: The text is not such a URL.
    """
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        is_valid = False
    if not is_valid or re.search(r"[^!-~]", text) or "?" in text or "#" in text or "@" in text:
        raise SettingsError(
            f"Invalid public URL {text!r}; use http:// or https:// with a host, such as http://seedbed:80."
        )
    return text.rstrip("/")


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit over a sliding window.

    Attributes:
        requests: Number of requests allowed in the window.
        seconds: Length of the window.
    """

    requests: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.requests}/{self.seconds:g}"

    @classmethod
    def parse(cls, text: str) -> Rate | None:
        """Parse ``N/SECONDS``, such as ``20/10``, or ``off``.

        Raises:
            SettingsError: The text is neither.
        """
        if text == "off":
            return None
        match = re.fullmatch(rf"(\d{{1,9}})/({NUMBER})", text)
        if not match or not (requests := int(match[1])) or not (seconds := float(match[2])):
            raise SettingsError(f"Invalid rate {text!r}; use N/SECONDS, such as 20/10, or off.")
        return cls(requests, seconds)


@dataclass(frozen=True, slots=True)
class Span:
    """A range of durations.

    Attributes:
        least: The shortest, in seconds.
        most: The longest, in seconds; equal to ``least`` for a fixed duration.
    """

    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:g}" if self.least == self.most else f"{self.least:g}..{self.most:g}"

    @classmethod
    def parse(cls, text: str) -> Span:
        """Parse ``SECONDS``, such as ``3``, or ``MIN..MAX``, such as ``10..60``.

        Raises:
            SettingsError: The text is neither.
        """
        match = re.fullmatch(rf"({NUMBER})(?:\.\.({NUMBER}))?", text)
        if not match:
            raise SettingsError(f"Invalid time {text!r}; use SECONDS, such as 3, or MIN..MAX, such as 10..60.")
        return cls(float(match[1]), float(match[2] or match[1]))

    def draw(self, source: Random, _: str = "") -> float:
        """Return a duration in seconds, drawn uniformly from the range for every quality."""
        return source.uniform(self.least, self.most)


@dataclass(frozen=True, slots=True)
class Progress:
    """What advances tasks: time, polls of their records, or the control API alone.

    Attributes:
        by_time: Whether time advances tasks.
        polls: Number of polls after which a task ends, ``None`` if polls do not advance it.
    """

    by_time: bool = True
    polls: int | None = None

    def __str__(self) -> str:
        return "time" if self.by_time else f"polls:{self.polls}" if self.polls else "hand"

    @classmethod
    def parse(cls, text: str) -> Progress:
        """Parse ``time``, ``polls:N`` or ``hand``.

        Raises:
            SettingsError: The text is invalid.
        """
        match = re.fullmatch(r"(time|hand)|polls:(\d{1,6})", text)
        if not match or (match[2] and not int(match[2])):
            raise SettingsError(f"Invalid progress {text!r}; use time, hand or polls:N, such as polls:3.")
        return cls(match[1] == "time", int(match[2]) if match[2] else None)


def parse_credits(text: str) -> Decimal:
    """Parse an exact amount of credits.

    Raises:
        SettingsError: The text is not a number, or the amount is not allowed.
    """
    if not re.fullmatch(NUMBER, text):
        raise SettingsError(f"Invalid amount of credits {text!r}; use a number such as 80 or 6.5.")
    return exact_credits(Decimal(text))


def exact_credits(amount: Decimal | float) -> Decimal:
    """Return an amount of credits as a decimal with the digits that the number is printed with.

    Raises:
        SettingsError: The amount is negative, not finite, or above ``MOST_CREDITS``.
    """
    exact = Decimal(str(amount))
    if not (exact.is_finite() and 0 <= exact <= MOST_CREDITS):
        raise SettingsError(f"Invalid amount of credits {amount}; an account has from 0 to {MOST_CREDITS} credits.")
    return exact


def given_back(balance: Decimal, price: Decimal) -> Decimal:
    """Return a balance after a refund; what exceeds ``MOST_CREDITS`` is lost."""
    return min(balance + price, Decimal(MOST_CREDITS))


_KEY_OPTIONS = ("credits", "rate", "signing-key")
_OPTION = f"(?:{'|'.join(_KEY_OPTIONS)})="
# Names no value: what follows a mistyped option may be a secret.
_UNKNOWN_OPTION = f"Unknown option of a key; use {', '.join(_KEY_OPTIONS)}, as in NAME:credits=80,rate=20/10."


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """An API key and the options of its account.

    Attributes:
        key: The key.
        credits: Initial balance, ``None`` for that of the server.
        rate: Limit on new tasks, ``None`` for no limit, ``"default"`` for that of the server.
        signing_key: Key that signs callbacks, empty for unsigned callbacks.

    Raises:
        SettingsError: The key has a form that no header can carry.
    """

    key: str = field(repr=False)
    credits: Decimal | None = None
    rate: Rate | Literal["default"] | None = "default"
    signing_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-~]{1,256}", self.key):
            raise SettingsError("Invalid key; use 1 to 256 visible ASCII characters without spaces.")

    @classmethod
    def parse(cls, text: str) -> KeySettings:
        """Parse ``NAME`` or ``NAME:credits=80,rate=20/10,signing-key=SECRET``, with the options in any order.

        A comma belongs to the value before it unless one of the options follows.

        Raises:
            SettingsError: An option is unknown, empty, repeated or invalid.
        """
        key, *rest = re.split(rf":(?={_OPTION})", text, maxsplit=1)
        parts = [part.partition("=") for part in re.split(rf",(?={_OPTION})", rest[0])] if rest else []
        options = {name: value for name, _, value in parts}
        if len(options) < len(parts):
            raise SettingsError("Repeated option of a key; give each option once, as in NAME:credits=80.")
        is_mistyped = re.search(r":[\w-]+=", key) or "," in options.get("credits", "") + options.get("rate", "")
        if is_mistyped and all(options.values()):
            raise SettingsError(_UNKNOWN_OPTION)
        return cls._with_options(key, options)

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> KeySettings:
        """Read a ``[[key]]`` table of a config file; its name and signing key are taken literally.

        Raises:
            SettingsError: The name is missing, or an option is unknown, empty or invalid.
        """
        name = table.get("name")
        if not isinstance(name, str):
            raise SettingsError('A [[key]] has no name; add one, such as name = "my-key".')
        options = {option: value for option, value in table.items() if option != "name"}
        for option, value in options.items():
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise SettingsError(f"Invalid {option} of a [[key]]; use a number or a string.")
        texts = {option: str(value) for option, value in options.items()}
        if any(character in text for text in (name, *texts.values()) for character in "\0\r\n"):
            raise SettingsError("Invalid [[key]]; its values must not contain line breaks or NUL characters.")
        return cls._with_options(name, texts)

    @classmethod
    def _with_options(cls, key: str, options: Mapping[str, str]) -> KeySettings:
        if options.keys() - set(_KEY_OPTIONS):
            raise SettingsError(_UNKNOWN_OPTION)
        if empty := next((name for name, value in options.items() if not value), None):
            raise SettingsError(f"Empty {empty} of a key; give each option with a value, as in NAME:credits=80.")
        return cls(
            key=key,
            credits=parse_credits(options["credits"]) if "credits" in options else None,
            rate=Rate.parse(options["rate"]) if "rate" in options else "default",
            signing_key=options.get("signing-key", ""),
        )
