"""The types of the test cases."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")

Expected = Literal["refuse", "accept", "either"]
"""What a service has to do with a case. ``either`` means that neither the page nor a standard decides it."""

Headers = tuple[tuple[str, str], ...]
"""Headers in the order in which they are sent; a name can occur twice."""

_SHOWN_BYTES: Final = 500
# A process rarely works with more contracts, and the cases of one take some megabytes.
_CONTRACTS: Final = 8


def cached_by_contract(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Keep the cases that a function makes for the last few contracts."""
    # The type of lru_cache itself would accept any arguments.
    return cast("Callable[_P, _R]", lru_cache(_CONTRACTS)(function))


@dataclass(frozen=True, slots=True)
class AcceptedCase:
    """A valid request, which a service has to accept.

    Attributes:
        name: What the request tests, such as ``input.prompt of 3000 characters``.
        request: The request as a JSON value. Cases share it, so do not change it.
        clauses: IDs of the clauses that the request keeps.
        body: The bytes to send if the case is about the spelling of the JSON text, otherwise ``None``.
    """

    name: str
    request: Any
    clauses: tuple[str, ...]
    body: bytes | None = None

    @property
    def payload(self) -> bytes:
        """The request body to send."""
        return encode(self.request) if self.body is None else self.body


@dataclass(frozen=True, slots=True)
class RefusedCase:
    """The smallest request that violates a clause in one way, which a service has to refuse.

    Attributes:
        name: What is wrong with the request, such as ``input.prompt of 3001 characters``.
        clause: ID of the violated clause, such as ``input.prompt/maxLength``.
        request: The request as a JSON value. Cases share it, so do not change it.
        also: Other clauses on the same field that the request violates, too.
    """

    name: str
    clause: str
    request: Any
    also: tuple[str, ...] = ()

    @property
    def payload(self) -> bytes:
        """The request body to send."""
        return encode(self.request)


@dataclass(frozen=True, slots=True)
class RawBodyCase:
    """A raw request body with the headers that describe it.

    Attributes:
        name: What the body tests.
        body: The bytes to send.
        headers: The headers that describe the body. Send no others, not even ``Content-Type``.
        expected: What a service has to do with it.
        practice: ID of the good practice that a service follows or not if either is right, such as
            ``practice/strict-json``. Every service follows the practice of a body that it has to refuse or accept
            if it does not fail.
    """

    name: str
    body: bytes
    headers: Headers
    expected: Expected
    practice: str = ""

    def __repr__(self) -> str:
        # pytest and Hypothesis print the case, and some bodies have two million bytes.
        start, size = self.body[:_SHOWN_BYTES], len(self.body)
        body = f"{start!r}... of {size} bytes" if size > _SHOWN_BYTES else repr(start)
        return f"RawBodyCase(name={self.name!r}, body={body}, headers={self.headers!r}, expected={self.expected!r})"


@dataclass(frozen=True, slots=True)
class KeyHeaderCase:
    """One way to send an API key, or to leave it out.

    Attributes:
        name: What the headers test.
        headers: The headers that carry the key. They hold a secret, so ``repr()`` leaves them out.
        expected: What a service has to do with it.
        practice: ID of the good practice that a service follows or not if either is right.
    """

    name: str
    headers: Headers = field(repr=False)
    expected: Expected
    practice: str = ""


def encode(request: Any) -> bytes:
    """Return a request as a JSON body with the spacing and escapes that :mod:`json` writes by default."""
    return json.dumps(request).encode()
