"""Calls that show the seeded defects of careless servers, and those that need several calls to show."""

import gzip
import json
from collections.abc import Iterator
from typing import Any, Final

import httpx2
from tests.minimal_caller import CREATE, CREDIT, GOOD, RECORD_INFO, Caller, Receiver, with_input, with_prompt
from tests.minimal_service import Served
from tests.minimal_variants import KEY, SECOND_KEY

TEXT: Final = json.dumps(GOOD)
JSON: Final = "application/json"
BEARER: Final = f"Bearer {KEY}"
Header = tuple[str, str]


def _with(value: str) -> bytes:
    return TEXT.replace('{"model"', f'{{"x": {value}, "model"').encode()


BODIES: Final[tuple[tuple[bytes, tuple[Header, ...]], ...]] = (
    *(
        (body, (("Content-Type", JSON),))
        for body in (
            *(TEXT.encode() + after for after in (b"", b"x")),
            *(TEXT[:-1].encode() + end for end in (b",}", b"/* a */}")),
            repr(GOOD).encode(),
            *map(_with, ("NaN", "0x1", "01", "undefined", "null", '"a"', "1e400", "1" * 4000)),
            json.dumps(with_input(x=1)).encode(),
            TEXT.replace("caf", "ca\nf").encode(),
            TEXT.encode().replace(b"caf", b"ca\xff"),
            TEXT.encode("utf-16"),
            b"\xef\xbb\xbf" + TEXT.encode(),
            *(json.dumps(with_prompt(prompt)).encode() for prompt in ("", " ", "a\0b", "\ud800")),
            b"[" * 1000,
            b" " * 1_000_100,
            TEXT.replace('"model"', '"model": "a", "model"').encode(),
        )
    ),
    *(
        (TEXT.encode(), (("Content-Type", kind),))
        for kind in ("text/plain", "multipart/form-data", "application/xml", f"{JSON}; charset=nonsense")
    ),
    (TEXT.encode(), ()),
    (TEXT.encode(), (("Content-Type", "text/plain"), ("Content-Type", JSON))),
    (gzip.compress(TEXT.encode(), mtime=0), (("Content-Type", JSON), ("Content-Encoding", "gzip"))),
)
CALLS: Final = (
    *(("GET", f"{RECORD_INFO}?taskId={query}") for query in ("%00", "a&taskId=b", "a" * 6000, "%FF")),
    *(("GET", "/nope"), ("GET", CREATE), ("HEAD", CREATE), ("OPTIONS", CREATE), ("POST", CREDIT), ("GET", CREDIT)),
)
KEYS: Final = (
    *(f"bearer {KEY}", f"BEARER {KEY}", f"Bearer  {KEY}", f"Bearer{KEY}", f"Bearer: {KEY}", f'Bearer "{KEY}"'),
    *(f"{BEARER} a", f"{BEARER},", f"{BEARER}, Bearer b", f"Bearer {BEARER}"),
)
CALLBACKS: Final = (
    *("ftp://a.invalid/", "mailto:a@b.c", "file:///a", "https://a.invalid:8443/", "http://a.invalid/"),
    "https://a.invalid/",
)
FORCED: Final = (401, 402, 429, 455, 500, 505)


def shown(response: httpx2.Response | None) -> object:
    """Return a response with all its headers but those that differ from run to run."""
    if response is None:
        return "no response"
    headers = [
        (name.lower(), value)
        for name, value in response.headers.multi_items()
        if name.lower() not in ("date", "server")
    ]
    return response.status_code, sorted(headers), response.content


def raw_call(
    served: Served, client: httpx2.Client, call: tuple[str, str], headers: list[Header], content: Any = None
) -> httpx2.Response | None:
    try:
        return client.request(call[0], served.url + call[1], headers=headers, content=content)
    except httpx2.TransportError:
        return None


def single_calls(served: Served, client: httpx2.Client) -> Iterator[object]:
    """Yield what the server does with single odd calls."""
    own = ("Authorization", BEARER)
    for body, kinds in BODIES:
        yield shown(raw_call(served, client, ("POST", CREATE), [own, *kinds], body))
    yield shown(raw_call(served, client, ("POST", CREATE), [own, ("Content-Type", JSON)], iter([TEXT.encode()])))
    for call in CALLS:
        yield shown(raw_call(served, client, call, [own]))
    odd_keys: list[list[Header]] = [[("Authorization", header)] for header in KEYS]
    odd_keys += [[("Authorization", "Bearer b"), own], [own, ("Authorization", "Bearer b")], [("X-API-Key", KEY)]]
    for headers in odd_keys:
        yield shown(raw_call(served, client, ("GET", CREDIT), headers))
    for url in CALLBACKS:
        yield Caller(served, client).create({**GOOD, "callBackUrl": url})["code"]
    for code in FORCED:
        forced = [("Authorization", f"Bearer force-{code}")]
        yield shown(raw_call(served, client, ("POST", CREATE), forced, TEXT.encode()))


def repeated_calls(served: Served, client: httpx2.Client) -> Iterator[object]:
    """Yield what the server does with many calls, of two accounts."""
    first, second = Caller(served, client), Caller(served, client, SECOND_KEY)
    yield [first.fetch("nobody")["code"] for _ in range(15)], second.fetch("nobody")["code"]
    yield [first.create()["code"] for _ in range(25)], second.create()["code"]


def callback_headers(receiver: Receiver) -> Iterator[object]:
    """Yield the paths and the telling headers of the callbacks."""
    for call in receiver.calls:
        yield call.path, sorted((name, value) for name, value in call.headers.items() if name not in _CHANGING)


_CHANGING: Final = {"Host", "Content-Length", "X-Webhook-Timestamp", "X-Webhook-Signature"}
