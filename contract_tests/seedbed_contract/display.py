"""Exchanges as text for reports: a curl command and a shortened response, both without keys."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from seedbed_schemas.validation import printable

from seedbed_contract.findings import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_contract.callback_receiver import Received
    from seedbed_contract.http import Exchange, TargetRequest


KEY_VARIABLE: Final = "SEEDBED_API_KEY"
_MAX_RESPONSE: Final = 1 << 16
"""Bytes of a response that a sample keeps. The HTML and the JSON report show all of it, the others less."""
_MAX_WORD: Final = 100_000
"""Characters of one word of a command; Linux refuses an argument of more than 131,072 bytes."""
_IN_URLS: Final = "%:/?#[]@!$&'()*+,;={}|~"
"""Characters of a URL that stay as they are, besides letters, digits and ``_.-``."""
_GLOB: Final = re.compile(r"[\[\]{}]")
_MIN_SECRET: Final = 4
"""Length from which a key is replaced anywhere in a header; a shorter one may occur in other words by chance."""


def sample_of(exchange: Exchange, base_url: str, secrets: Mapping[str, str]) -> Sample:
    """Return an exchange as a sample.

    Args:
        exchange: The exchange.
        base_url: Base URL of the target.
        secrets: Keys, each with the shell variable that stands for it.
    """
    command = curl(exchange.request, base_url, secrets)
    return Sample(command, describe_response(exchange, secrets), len(exchange.request.body or b""))


def sample_of_received(received: Received, secrets: Mapping[str, str]) -> Sample:
    """Return a callback as a sample, which has no curl command."""
    headers = "".join(f"{name}: {value} | " for name, value in received.headers.items())
    body = received.body[:_MAX_RESPONSE].decode("utf-8", "replace")
    text = f"{received.method} {received.target} | {headers}{body}"
    return Sample("", printable(redact(text, secrets)), len(received.body))


def describe_response(exchange: Exchange, secrets: Mapping[str, str]) -> str:
    """Return the status, media type and body of a response as text without control characters and keys."""
    response = exchange.response
    if response is None:
        return f"no response: {exchange.problem}"
    text = redact(response.body[:_MAX_RESPONSE].decode("utf-8", "replace"), secrets)
    more = "" if response.is_whole and len(response.body) <= _MAX_RESPONSE else "..."
    media_type = redact(response.header("content-type"), secrets)
    return printable(f"HTTP {response.status} {media_type} | {text}{more}")


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """Return a text with each key replaced by its shell variable."""
    for secret, variable in secrets.items():
        if secret:
            text = text.replace(secret, f"${variable}")
    return text


def curl(request: TargetRequest, base_url: str, secrets: Mapping[str, str]) -> str:
    """Return a request as a curl command with shell variables in place of the keys.

    Args:
        request: The request. Its target is a path, or the whole URL of a result.
        base_url: Base URL of the target.
        secrets: Keys, each with the shell variable that stands for it.
    """
    implied_method = "GET" if request.body is None else "POST"
    words = ["curl", "-s"]
    if request.method != implied_method:
        words += ["-X", request.method]
    words += _location(request, base_url, secrets)
    if request.body is not None and not any(name.lower() == "content-type" for name, _ in request.headers):
        words += ["-H", "Content-Type:"]  # otherwise curl adds a header of its own
    for name, value in request.headers:
        words += ["-H", _quoted(f"{name}: {value}" if value else f"{name};", secrets)]
    if request.body is None:
        return " ".join(words)
    # Bytes that are not UTF-8 become surrogates, which are not printable.
    text = request.body.decode("utf-8", "surrogateescape")
    if text.isprintable() and len(text) <= _MAX_WORD:
        return " ".join([*words, "--data-raw", shlex.quote(text)])
    if text.isprintable():
        # The shell runs printf itself, so the length of its argument has no limit.
        return f"printf %s {shlex.quote(text)} | {' '.join(words)} --data-binary @-"
    # A shell word cannot hold arbitrary bytes, so printf makes them from octal escapes.
    octal = "".join(f"\\0{byte:03o}" for byte in request.body)
    return f"printf '%b' {shlex.quote(octal)} | {' '.join(words)} --data-binary @-"


def _location(request: TargetRequest, base_url: str, secrets: Mapping[str, str]) -> list[str]:
    """Return the URL of a request, after the options without which curl would change it."""
    if request.operation == "result":
        # An image would garble the terminal. The URL comes from the target, which may not have escaped it.
        return ["-D", "-", "-o", "/dev/null", "-g", "--path-as-is", _quoted(quote(request.target, _IN_URLS), secrets)]
    url = base_url + request.target
    options = ["-g"] if _GLOB.search(url) else []
    if "/." in request.target:
        options.append("--path-as-is")
    return [*options, _quoted(url, secrets)]


def _quoted(text: str, secrets: Mapping[str, str]) -> str:
    """Quote a word for the shell; a key in it, or a value derived from a key, becomes a shell expression."""
    for secret, variable in secrets.items():
        # The key and the wrong keys that the checks derive from it; the longest come first, as they contain others.
        forms = (
            (secret, f"${{{variable}}}"),
            (secret.swapcase(), f"$(printf %s \"${variable}\" | tr 'A-Za-z' 'a-zA-Z')"),
            (secret.upper(), f"$(printf %s \"${variable}\" | tr 'a-z' 'A-Z')"),
            (secret.lower(), f"$(printf %s \"${variable}\" | tr 'A-Z' 'a-z')"),
            (secret[::-1], f'$(printf %s "${variable}" | rev)'),
            (secret[:-1], f"${{{variable}%?}}"),
            (secret[1:], f"${{{variable}#?}}"),
        )
        for derived, expression in forms:
            if derived and derived in text and (len(secret) >= _MIN_SECRET or text.endswith(f" {derived}")):
                before, _, after = text.partition(derived)
                return f'"{_escaped(before)}{expression}{_escaped(after)}"'
    return shlex.quote(text)


def _escaped(text: str) -> str:
    return re.sub(r'([\\"$`])', r"\\\1", text)
