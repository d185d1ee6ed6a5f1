"""What the enumerated cases are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Meant = Literal["refuse", "accept", "either"]
"""What a service has to do: ``either`` where neither the page nor a standard says."""

_SHOWN: Final = 500

Headers = tuple[tuple[str, str], ...]
"""Headers in the order in which they are sent; a name may stand twice."""


@dataclass(frozen=True, slots=True)
class AcceptedCase:
    """A request that keeps the contract, so that a service has to accept it.

    Attributes:
        name: What is special of it, such as ``input.prompt of 3000 characters``.
        request: The request, as a value that JSON can say; not to be changed.
        clauses: Ids of the clauses that it keeps.
        body: The bytes to send where the way in which it is written is what is special, else ``None``.
    """

    name: str
    request: Any
    clauses: tuple[str, ...]
    body: bytes | None = None

    @property
    def payload(self) -> bytes:
        """The bytes to send."""
        return written(self.request) if self.body is None else self.body


@dataclass(frozen=True, slots=True)
class RefusedCase:
    """The smallest request that breaks a clause in one way, so that a service has to refuse it.

    Attributes:
        name: What is wrong with it, such as ``input.prompt of 3001 characters``.
        clause: Id of the clause that it breaks, such as ``input.prompt/maxLength``.
        request: The request, as a value that JSON can say; not to be changed.
    """

    name: str
    clause: str
    request: Any

    @property
    def payload(self) -> bytes:
        """The bytes to send."""
        return written(self.request)


@dataclass(frozen=True, slots=True)
class RawBodyCase:
    """Bytes to send in place of a request, with the headers that go with them.

    Attributes:
        name: What is special of them.
        body: The bytes.
        headers: The headers that tell of the body; one that is not among them is not sent, ``Content-Type`` too.
        meant: What a service has to do.
    """

    name: str
    body: bytes
    headers: Headers
    meant: Meant

    def __repr__(self) -> str:
        shown = f"{self.body[:_SHOWN]!r}... of {len(self.body)} bytes" if len(self.body) > _SHOWN else repr(self.body)
        return f"RawBody(name={self.name!r}, body={shown}, headers={self.headers!r}, meant={self.meant!r})"


@dataclass(frozen=True, slots=True)
class KeyHeaderCase:
    """One way to send a key, or none.

    Attributes:
        name: What is special of it.
        headers: The headers that carry the key: none, one, or one twice. They are not shown, for they hold a secret.
        meant: What a service has to do.
    """

    name: str
    headers: Headers = field(repr=False)
    meant: Meant


def written(request: Any) -> bytes:
    """Return a request as the bytes of a body, as it is usually written."""
    return json.dumps(request).encode()
