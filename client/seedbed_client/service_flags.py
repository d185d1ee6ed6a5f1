"""The flags that say which service a command calls, and the sentence in which a command fails."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter
from seedbed_schemas.refusals import printable

from seedbed_client.config import environment_key
from seedbed_client.errors import ConfigurationError
from seedbed_client.retrying import MAX_RETRIES

if TYPE_CHECKING:
    from seedbed_client.async_client import AsyncSeedreamClient
    from seedbed_client.client import SeedreamClient

    Client = TypeVar("Client", SeedreamClient, AsyncSeedreamClient)

USAGE_ERROR = 2
INTERRUPTED = 130


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ServiceFlags:
    """Which service to call.

    Attributes:
        base_url: Where the service is; else SEEDBED_BASE_URL, else the local fake.
        key: API key; else SEEDBED_API_KEY, else the local fake's own.
        live: Call the paid service, which costs credits.
        max_retries: How often a call is made again where that cannot pay twice.
    """

    base_url: str | None = None
    key: Annotated[str | None, Parameter(show_default=False)] = field(default=None, repr=False)
    live: bool = False
    max_retries: int = MAX_RETRIES

    def client(self, cls: type[Client], **options: Any) -> Client:
        """Return a client of the service.

        Raises:
            ConfigurationError: The flags name no service, or two.
        """
        if self.live and self.base_url:
            raise ConfigurationError("--live and --base-url name two services: give one of them.")
        options["max_retries"] = max(self.max_retries, 0)
        if self.live:
            return cls.live(self.key or environment_key().tell(), **options)
        return cls(self.base_url, self.key, **options)


def say(text: str) -> None:
    """Print what a command tells, with escapes for the characters that standard output cannot write."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def fail(command: str, sentence: str, code: int = 1) -> int:
    """Print why a command failed, and return its exit code."""
    print(f"seedbed {command}: {printable(sentence).rstrip('.')}.", file=sys.stderr)
    return code
