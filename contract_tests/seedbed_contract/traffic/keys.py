"""The keys in recorded traffic: which were kept, which a recorder took out, and how none of them is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from seedbed_contract.shown import KEY_VARIABLE
from seedbed_contract.traffic.recorded import header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_schemas import Contract

    from seedbed_contract.exchange import Headers
    from seedbed_contract.traffic.recorded import Recorded

LEFT_OUT: Final = "key-that-the-recorder-left-out"
"""Stands where a recorder wrote no key, so that the command that is shown has a place for one."""
_SHORTEST: Final = 8
"""Characters of a key; what is shorter may stand in any text by chance."""
_TAKEN_OUT: Final = re.compile(
    r"redact|sanit|remov|filter|hidden|mask|secret|censor|your|\*\*|••|xxx|\.\.\.|…|^[<\[{$].*[>\]}]?$|^$",
    re.IGNORECASE,
)


def keys_of(recorded: Iterable[Recorded], contract: Contract) -> dict[str, str]:
    """Return the keys that were kept, the longest first, each with the name of a shell variable for it."""
    sent = (sent_key(exchange.request_headers, contract)[1] for exchange in recorded)
    kept = dict.fromkeys(key for key in sent if is_kept(key))
    named = {key: f"{KEY_VARIABLE}_{number}" if number > 1 else KEY_VARIABLE for number, key in enumerate(kept, 1)}
    # One key may be the beginning of another, and would leave the rest of it to be seen.
    return dict(sorted(named.items(), key=lambda entry: -len(entry[0])))


def shown_header(headers: Headers, contract: Contract) -> str:
    """Return the header that carries the key, with a place for one where the recorder took it out."""
    scheme, key = sent_key(headers, contract)
    return f"{scheme or contract.operation.scheme} {LEFT_OUT}" if is_taken_out(key) else f"{scheme} {key}".strip()


def sent_key(headers: Headers, contract: Contract) -> tuple[str, str]:
    """Return the scheme and the key that were sent, each empty where it was not sent, or not kept."""
    scheme, _, key = header(headers, contract.operation.header).strip().partition(" ")
    is_scheme = bool(key) or scheme.lower() == contract.operation.scheme.lower()
    return (scheme, key.strip()) if is_scheme else ("", scheme)


def is_kept(key: str) -> bool:
    """Tell whether something is a key, and not too short for one, or a word that stands in its place."""
    return len(key) >= _SHORTEST and not is_taken_out(key)


def is_taken_out(key: str) -> bool:
    """Tell whether a recorder, or who passed the file on, took a key out."""
    return _TAKEN_OUT.search(key) is not None
