"""A key that does not show: not in a repr, a log or the locals of a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Secret:
    """A text that only who asks for it gets to see.

    Args:
        text: The text.
    """

    __slots__ = ("_tell",)

    def __init__(self, text: str) -> None:
        # A closure, for tools that show objects look into their attributes, slots included.
        self._tell: Callable[[], str] = lambda: text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __bool__(self) -> bool:
        return bool(self._tell())

    def __reduce__(self) -> str:
        raise TypeError("A secret is not written anywhere.")

    def tell(self) -> str:
        """Return the text."""
        return self._tell()


class KeyHeader(httpx2.Auth):
    """Puts a key into its header when a request leaves, so that nothing on the way there holds it.

    Args:
        header: Name of the header.
        scheme: Word before the key.
        key: The key.
    """

    def __init__(self, header: str, scheme: str, key: Secret) -> None:
        self._header, self._scheme, self._key = header, scheme, key

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Yield the request with its key."""
        request.headers[self._header] = f"{self._scheme} {self._key.tell()}"
        yield request


def without_frames(error: BaseException, outer: BaseException | None) -> BaseException:
    """Return an error without the frames in which it came about, and so without the headers that stood there.

    Args:
        error: The error.
        outer: What was being handled before, by callers, which stays as it is.
    """
    seen: set[int] = {id(outer)}
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            waiting += [each.__cause__, each.__context__]
    return error
