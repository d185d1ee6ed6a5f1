"""The door of the deriver: finds out by its content of which form a page is, and makes a contract of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import yaml12

from seedbed_schemas.contract import Contract, ContractError
from seedbed_schemas.derive.document import read_sections
from seedbed_schemas.derive.facts import PageError, PageFacts
from seedbed_schemas.derive.markdown import read_markdown, server
from seedbed_schemas.derive.openapi import read_openapi
from seedbed_schemas.derive.writer import render, write_contract
from seedbed_schemas.refusals import shown

LONGEST: Final = 2 * 1024 * 1024
"""Characters beyond which a page is refused unread."""
_LONGEST_PROSE: Final = 256 * 1024
"""Characters outside fences beyond which a Markdown page is refused; known pages have a twentieth of them."""

_FENCE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_OPENAPI: Final = re.compile(r"\s*(?:---\s+)?(?:#[^\n]*\s+)*['\"]?openapi['\"]?\s*:")


@dataclass(frozen=True)
class Derivation:
    """A contract, and what its page says beyond it.

    Attributes:
        contract: The contract document.
        notes: Limits that stand only in the prose, a phrase each.
        unread: What was understood as neither fact nor prose, a phrase each.
    """

    contract: dict[str, Any]
    notes: tuple[str, ...]
    unread: tuple[str, ...]

    @property
    def text(self) -> str:
        """The contract as the text of its file."""
        return render(self.contract)


def derive_page(page: str) -> Derivation:
    """Derive the contract of a page of any known form.

    Args:
        page: The text of the page.

    Raises:
        PageError: The page cannot be read; the message is one sentence that names what was missed.
    """
    facts = read_page(page)
    contract = write_contract(facts)
    try:
        notes = tuple(Contract(contract).notes())
        msgspec.json.decode(render(contract).encode())
    except ContractError as error:
        raise PageError(f"The page makes no contract: {error}") from error
    except ValueError as error:
        raise PageError("The page states a value that JSON cannot say.") from error
    return Derivation(contract, notes, facts.unread)


def derive(page: str) -> str:
    """Return the text of the contract file that a page makes.

    Raises:
        PageError: The page cannot be read; the message is one sentence that names what was missed.
    """
    return derive_page(page).text


def read_page(page: str) -> PageFacts:
    """Return what a page of any known form states.

    Raises:
        PageError: The page cannot be read.
    """
    _check_length(page, LONGEST)
    if not page.strip():
        raise PageError("The page is empty.")
    if "\0" in page:
        raise PageError("The page is not text.")
    if page.lstrip().startswith("{"):
        return _from_json(page)
    return read_openapi(_yaml(page)) if _OPENAPI.match(page) else _from_markdown(page)


def _check_length(text: str, longest: int) -> None:
    if len(text) > longest:
        raise PageError(f"The page is longer than {longest // 1024} Ki characters, which no documentation page is.")


def _from_markdown(page: str) -> PageFacts:
    _check_length(_FENCE.sub("", page), _LONGEST_PROSE)
    sections = read_sections(page)
    for section in sections:
        for fence in section.fences:
            document = _document(fence)
            if document is not None:
                return read_openapi(document, heading=section.heading, server_of=lambda path: server(sections, path))
    return read_markdown(sections)


def _document(fence: str) -> Any:
    """Return the OpenAPI document in a fence, in either syntax, or ``None`` where it holds something else."""
    if _OPENAPI.match(fence):
        return _yaml(fence)
    if not fence.lstrip().startswith("{"):
        return None
    try:
        value = msgspec.json.decode(fence.encode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and "openapi" in value else None


def _from_json(page: str) -> PageFacts:
    """Read the answer of the service for a model's schema, or the OpenAPI document alone."""
    try:
        document: dict[str, Any] = msgspec.json.decode(page.encode())
    except (ValueError, RecursionError) as error:
        raise PageError("The page begins as JSON, but is no whole JSON.") from error
    if "openapi" in document:
        return read_openapi(document)
    data = document.get("data")
    if not isinstance(data, dict):
        raise PageError(f"The answer has no data: {shown(document.get('msg', 'it gives no reason'))}.")
    if not isinstance(data.get("openapi"), dict):
        raise PageError(f"The answer has no OpenAPI document for the model {shown(data.get('model', 'it names'))}.")
    return read_openapi(data["openapi"], base="/data/openapi")


def _yaml(text: str) -> Any:
    # A few aliases make a document of any size, and no page needs one.
    anchors, aliases = (set(re.findall(rf"{mark}([^\s,\[\]{{}}]+)", text)) for mark in ("&", r"\*"))
    if shared := anchors & aliases:
        raise PageError(f"The OpenAPI document of the page uses the YAML alias {shown(min(shared))!r}; write it out.")
    try:
        return _plain(yaml12.parse_yaml(text))
    except RecursionError as error:
        raise PageError("The OpenAPI document of the page nests too deeply.") from error
    except ValueError as error:
        raise PageError(
            f"The OpenAPI document of the page is no whole YAML: {shown(str(error)).rstrip('.')}."
        ) from error


def _plain(node: Any) -> Any:
    """Give a YAML value the form that JSON has: names are strings, and tags are gone."""
    if isinstance(node, yaml12.Yaml):
        return _plain(node.value)
    if isinstance(node, dict):
        return {str(_plain(name)): _plain(value) for name, value in node.items()}
    return [_plain(item) for item in node] if isinstance(node, list) else node
