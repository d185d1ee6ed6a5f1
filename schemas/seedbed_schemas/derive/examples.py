"""What a page shows of its operations: stated endpoints, example calls and JSON bodies, and their contradictions."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.clauses import CODE, nodes
from seedbed_schemas.derive.document import Fence, lines_of
from seedbed_schemas.derive.facts import Example, Field, Place, RuleFact, split_url
from seedbed_schemas.derive.vocabulary import match_concept
from seedbed_schemas.job_api import job_api
from seedbed_schemas.validation import Schema, for_display

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_schemas.contract import Contract
    from seedbed_schemas.derive.document import Section, Segment


@dataclass(frozen=True)
class ExampleCall:
    """An example call in a page, in any language.

    Attributes:
        url: The called URL.
        method: The HTTP method, if the call names it or sends a body; otherwise empty.
        headers: The headers with a word before the key, such as ``("Authorization", "Bearer")``.
        place: Where the call stands.
    """

    url: str
    method: str
    headers: tuple[tuple[str, str], ...]
    place: Place


# --- stated operations -----------------------------------------------------------------------------------------------


_ENDPOINT: Final = re.compile(
    r"(?:(?P<method>GET|POST|PUT|PATCH|DELETE)\b[\s:：]{0,4})?(?P<url>(?:https?://[^\s/\[\]]{1,200})?/[\w./{}?=&:%-]{1,300})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class StatedOperation:
    """An operation that a page names: its method, if it is stated beside the path, and its URL or path."""

    url: str
    method: str
    place: Place
    headings: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path without the query."""
        return split_url(self.url)[1]

    @property
    def server(self) -> str:
        """The server, if the page gives the whole URL."""
        return split_url(self.url)[0]


def stated_operations(sections: Iterable[Section]) -> Iterator[StatedOperation]:
    """Yield the operations that labels, headings of a fence or code spans name, in page order."""
    for section in sections:
        label = ""
        if (match := _ENDPOINT.fullmatch(section.heading)) and match["method"]:
            yield StatedOperation(match["url"], match["method"].upper(), Place(section.heading), section.headings)
        for block in section.blocks:
            lines: Iterable[Segment] = ()
            if isinstance(block, Fence):
                match = _ENDPOINT.match(block.text.strip())
                if match and (label or match["method"]):
                    place = Place(section.heading, label=label)
                    yield StatedOperation(match["url"], match["method"] or "", place, section.headings)
                label = ""
            else:
                lines = lines_of([block])
            for line in lines:
                found = _operation_of(section, line, label)
                if found:
                    yield found
                label = line.label if match_concept(line.label, "path") and not line.text else ""


def _operation_of(section: Section, line: Segment, label_above: str) -> StatedOperation | None:
    label, text = line.label or label_above, line.text
    if not line.label and (parts := plain_label_of_path(text)):
        label, text = parts
    match = _ENDPOINT.fullmatch(text.strip())
    if not match or (line.label and not match_concept(line.label, "path")):
        return None
    # Without a label, a path in running text may be that of anything.
    if not match_concept(label, "path") and not match["method"]:
        return None
    place = Place(section.heading, label=label)
    return StatedOperation(match["url"], (match["method"] or "").upper(), place, section.headings)


def plain_label_of_path(text: str) -> tuple[str, str] | None:
    """Return the label of a path without bold text, and the path."""
    label, colon, value = text.replace("：", ":", 1).partition(":")
    return (label, value.strip()) if colon and match_concept(label, "path") else None


def headings_of_others(main: StatedOperation, operations: Iterable[StatedOperation]) -> set[tuple[str, ...]]:
    """Return the headings of the parts of the page that document other operations."""
    found = set[tuple[str, ...]]()
    for other in operations:
        if other.path == main.path:
            continue
        shared = 0
        for one, two in zip(main.headings, other.headings, strict=False):
            if one != two:
                break
            shared += 1
        if shared < len(other.headings):
            found.add(other.headings[: shared + 1])
    return found


# --- reading ---------------------------------------------------------------------------------------------------------


# Without brackets, which urlsplit rejects outside addresses of IPv6.
_URL: Final = re.compile(r"https?://[^\s'\"`\\)>,;\[\]]{1,400}")
_METHOD: Final = re.compile(
    r"(?:-X|--request)[\s=]{1,4}['\"]?([A-Za-z]{3,7})|method['\"]?\s{0,3}[:=]\s{0,3}['\"]([A-Za-z]{3,7})"
)
_SENDS_BODY: Final = re.compile(r"\s(?:-d|--data(?:-raw|-binary|-ascii)?|--json)\b|requests\.post\(|\.post\(")
_SENT_HEADER: Final = re.compile(
    r"['\"](?P<header>[A-Za-z][\w-]{1,99})['\"]?\s{0,3}:\s{0,3}f?['\"]?(?P<scheme>[A-Za-z]{1,40}) [^'\"\s]{1,300}['\"]"
)
_JSON_START: Final = re.compile(r"(?:^|['\"\n=(])[^\S\n]{0,200}(\{)")
_MAXIMUM_STARTS: Final = 8
_MAXIMUM_DEPTH: Final = 40
_SHARED_HEADERS: Final = frozenset({"content-type", "accept", "user-agent"})


def example_calls(sections: Iterable[Section]) -> Iterator[ExampleCall]:
    """Yield the calls in the code fences of a page."""
    for section in sections:
        for fence in section.fences:
            headers = tuple(
                (match["header"], match["scheme"])
                for match in _SENT_HEADER.finditer(fence.text)
                if match["header"].casefold() not in _SHARED_HEADERS
            )
            method = _METHOD.search(fence.text)
            name = (method[1] or method[2]).upper() if method else "POST" if _SENDS_BODY.search(fence.text) else ""
            for url in _URL.finditer(fence.text):
                yield ExampleCall(url[0], name, headers, Place(section.heading))


def server_from_examples(sections: Iterable[Section], path: str) -> RuleFact | None:
    """Return the server that the page's example calls send a request for the path to, or ``None``."""
    for call in example_calls(sections):
        address = call.url.partition("?")[0]
        if address.endswith(path) and address.removesuffix(path).count("/") == 2:  # noqa: PLR2004 - the scheme has two
            return RuleFact(address.removesuffix(path), call.place)
    return None


def json_examples(sections: Iterable[Section]) -> Iterator[Example]:
    """Yield the JSON objects in the code fences of a page, whole or as the body of a call."""
    for section in sections:
        for fence in section.fences:
            if (value := json_in(fence)) is not None:
                yield Example(value, Place(section.heading), fence.line)


def json_in(fence: Fence) -> dict[str, Any] | None:
    """Return the first JSON object in a code fence, or ``None``."""
    decoder = json.JSONDecoder()
    for match, _ in zip(_JSON_START.finditer(fence.text), range(_MAXIMUM_STARTS), strict=False):
        try:
            value, _ = decoder.raw_decode(fence.text, match.start(1))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and is_shallow(value):
            return value
    return None


def is_shallow(value: Any) -> bool:
    """Return whether a value nests no deeper than the example of a page would, so that recursion into it ends."""
    open_values = [(value, 0)]
    while open_values:
        current, depth = open_values.pop()
        if depth > _MAXIMUM_DEPTH:
            return False
        children = current.values() if isinstance(current, dict) else current if isinstance(current, list) else ()
        open_values += [(child, depth + 1) for child in children]
    return True


def is_request(example: Example) -> bool:
    """Return whether an example is the body of a request, which names a model and is no record of a task."""
    return job_api().fields.model in example.value and job_api().fields.input in example.value


def is_success(example: Example) -> bool:
    """Return whether an example is the response to a successful request."""
    data = example.value.get("data")
    # The record of a task also has an ID, but more beside it.
    return example.value.get(CODE) == SUCCESS and isinstance(data, dict) and "state" not in data


SUCCESS: Final = 200
"""The code of a success, which every page of the job API documents."""


def field_of_example(example: Example) -> Field:
    """Return the fields that an example shows, for pages that describe a response only by an example."""
    return _shown_field("", example.value, example.place)


_TYPE_NAMES: Final = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def _shown_field(name: str, value: Any, place: Place) -> Field:
    shown = _TYPE_NAMES.get(type(value))
    children = value.items() if isinstance(value, dict) else ()
    fields = tuple(_shown_field(child, shown_value, place) for child, shown_value in children)
    return Field(name, {"type": RuleFact(shown, place)} if shown else {}, fields=fields)


# --- contradictions --------------------------------------------------------------------------------------------------


@dataclass
class FoundPhrases:
    """What a page states in two ways, one phrase each, in the order in which it was found."""

    phrases: list[str] = field(default_factory=list)

    def add(self, phrase: str) -> None:
        """Add a phrase once."""
        if phrase not in self.phrases:
            self.phrases.append(phrase)


def contradictions(contract: Contract, requests: Iterable[Example], answers: Iterable[Example]) -> list[str]:
    """Return where the examples and the defaults of a page break the page's own rules.

    Args:
        contract: The contract of the page.
        requests: Examples of requests.
        answers: Examples of responses to successful requests.
    """
    found = FoundPhrases()
    for part in ("request", "answer"):
        for node in nodes(contract.document, part):
            check_own_values(node.id, node.schema, found)
    model = job_api().fields.model
    for example in requests:
        named = example.value.get(model) if isinstance(example.value, dict) else None
        if isinstance(named, str) and named != contract.model:
            found.add(
                f"{example.describe()} is for the model {for_display(named)!r}, not {for_display(contract.model)!r}"
            )
        _check_example(example, contract.request, found, ignore=f"{model}/const")
    for example in answers:
        _check_example(example, contract.answer, found)
    return found.phrases


def _check_example(example: Example, schema: Schema, found: FoundPhrases, ignore: str = "") -> None:
    if not schema.accepts(example.value):
        for violation in schema.violations(example.value):
            if violation.clause != ignore:
                found.add(f"{example.describe()} breaks {violation.clause}: {violation.message}")


def check_own_values(name: str, schema: Any, found: FoundPhrases) -> None:
    """Check the default and the examples of one field by its other rules."""
    own = [("default", schema["default"])] if "default" in schema else []
    own += [("example", value) for value in schema.get("examples", ())]
    if not own:
        return
    rules = Schema(schema, name=name)
    for what, value in own:
        if not rules.accepts(value):
            reason = rules.violations(value)[0].message
            shown = repr(for_display(value)) if isinstance(value, str) else for_display(value)
            found.add(f"the {what} {shown} of {name}: {reason}")
