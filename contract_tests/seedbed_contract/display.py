"""Exchanges as people are shown them: a curl command that works as pasted, an answer cut to length, and no key."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from seedbed_schemas.validation import printable

from seedbed_contract.findings import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_contract.callback_receiver import Received
    from seedbed_contract.http import Exchange, TargetRequest


KEY_VARIABLE: Final = "SEEDBED_API_KEY"
_LONGEST_ANSWER: Final = 2_000
_SHORTEST_SECRET: Final = 4


def sample_of(exchange: Exchange, base_url: str, secrets: Mapping[str, str]) -> Sample:
    """Return what shows an exchange.

    Args:
        exchange: The exchange.
        base_url: Where the target is.
        secrets: Name of the shell variable by the key that it stands for.
    """
    return Sample(
        curl(exchange.request, base_url, secrets),
        describe_response(exchange, secrets),
        len(exchange.request.body or b""),
    )


def sample_of_received(received: Received, secrets: Mapping[str, str]) -> Sample:
    """Return what shows a callback: there is no request of one's own."""
    headers = "".join(f"{name}: {value} | " for name, value in received.headers.items())
    text = (
        f"{received.method} {received.target} | {headers}{received.body[:_LONGEST_ANSWER].decode('utf-8', 'replace')}"
    )
    return Sample("", printable(redact(text, secrets)), len(received.body))


def curl(ask: TargetRequest, base_url: str, secrets: Mapping[str, str]) -> str:
    """Return a request as a curl command, with shell variables in place of keys."""
    words = ["curl", "-s", *_method(ask), _quoted(base_url + ask.target, secrets)]
    if ask.body is not None and not any(name.lower() == "content-type" for name, _ in ask.headers):
        words += ["-H", "Content-Type:"]  # else curl would send one of its own
    for name, value in ask.headers:
        words += ["-H", _quoted(f"{name}: {value}" if value else f"{name};", secrets)]
    if ask.body is None:
        return " ".join(words)
    if _is_plain(ask.body):
        return " ".join([*words, "--data-raw", shlex.quote(ask.body.decode())])
    octal = "".join(f"\\0{byte:03o}" for byte in ask.body)
    return f"printf '%b' {shlex.quote(octal)} | {' '.join(words)} --data-binary @-"


def describe_response(exchange: Exchange, secrets: Mapping[str, str]) -> str:
    """Return what came back, as text without control characters and keys."""
    answer = exchange.response
    if answer is None:
        return f"no answer: {exchange.problem}"
    text = redact(answer.body[:_LONGEST_ANSWER].decode("utf-8", "replace"), secrets)
    more = "" if answer.is_whole and len(answer.body) <= _LONGEST_ANSWER else "..."
    kind = answer.header("content-type")
    return printable(f"HTTP {answer.status} {redact(kind, secrets)} | {text}{more}")


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """Return a text with the names of shell variables in place of keys."""
    for secret, variable in secrets.items():
        if secret:
            text = text.replace(secret, f"${variable}")
    return text


def _method(ask: TargetRequest) -> list[str]:
    implied = "GET" if ask.body is None else "POST"
    return [] if ask.method == implied else ["-X", ask.method]


def _is_plain(body: bytes) -> bool:
    try:
        return body.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def _quoted(text: str, secrets: Mapping[str, str]) -> str:
    """Quote a word for the shell; where it holds a key, or something made of one, the shell makes it again."""
    for secret, variable in secrets.items():
        for made, expression in _made_of(secret, variable):
            if made and made in text and (len(secret) >= _SHORTEST_SECRET or text.endswith(f" {made}")):
                before, _, after = text.partition(made)
                return f"{_in_double_quotes(before)}{expression}{_closed(after)}"
    return shlex.quote(text)


def _made_of(secret: str, variable: str) -> tuple[tuple[str, str], ...]:
    """Return what is made of a key, longest first, each with the shell's word for it."""
    return (
        (secret, f"${{{variable}}}"),
        (secret.swapcase(), f"$(printf %s \"${variable}\" | tr 'A-Za-z' 'a-zA-Z')"),
        (secret.upper(), f"$(printf %s \"${variable}\" | tr 'a-z' 'A-Z')"),
        (secret.lower(), f"$(printf %s \"${variable}\" | tr 'A-Z' 'a-z')"),
        (secret[::-1], f'$(printf %s "${variable}" | rev)'),
        (secret[:-1], f"${{{variable}%?}}"),
        (secret[1:], f"${{{variable}#?}}"),
    )


def _in_double_quotes(text: str) -> str:
    return '"' + _escaped(text)


def _closed(text: str) -> str:
    return _escaped(text) + '"'


def _escaped(text: str) -> str:
    return re.sub(r'([\\"$`])', r"\\\1", text)
