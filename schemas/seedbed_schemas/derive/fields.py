"""Fields: what the entries of a page state, as rules of JSON Schema."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.clauses import CODE
from seedbed_schemas.derive.facts import (
    Field,
    Note,
    PageError,
    Place,
    RuleFact,
    TypeSpec,
    is_prose,
    parse_example,
    parse_number,
    parse_type,
    parse_value,
)
from seedbed_schemas.derive.vocabulary import LABELS, LIMITS, RANGES, limits_in_prose, match_concept, words_for
from seedbed_schemas.job_api import job_api

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from seedbed_schemas.derive.document import Segment
    from seedbed_schemas.derive.layouts import FieldEntry


_MAY_HAVE_FRACTIONS: Final = frozenset({"minimum", "maximum", "multipleOf"})
_NUMBER: Final = r"-?\d[\d.,]{0,19}"
_RANGE: Final = re.compile(
    rf"[\[(（【]?\s?(?P<low>{_NUMBER})\s{{0,3}}(?:(?:<=|≤|<)\s?\w{{1,20}}\s?(?:<=|≤|<)|-|–|—|~|～|〜|\.\.\.?|…|to|and|至|到|,|，)"
    rf"\s{{0,3}}(?P<high>{_NUMBER})(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_STEP: Final = re.compile(r"(?:step|步长)\s?[:：=]?\s?(\d[\d.]{0,9})", re.IGNORECASE)
_ARRAY_KEYWORDS: Final = frozenset({"minItems", "maxItems", "default", "deprecated"})
"""Keywords that apply to an array itself; all others in its description apply to its items."""
_TYPES_OF_LIMITS: Final = {
    **dict.fromkeys(("minLength", "maxLength", "pattern"), ("string",)),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), ("integer", "number")),
    **dict.fromkeys(("minItems", "maxItems"), ("array",)),
}
_MAXIMUM_DEPTH: Final = 20
_MAXIMUM_OPTION_CHARACTERS: Final = 60
_MODEL: Final = job_api().fields.model


def read_fields(entries: Iterable[FieldEntry], what: str, unrecognized: list[str]) -> tuple[Field, ...]:
    """Turn the entries of one part of the page into fields, each with its children.

    Args:
        entries: The entries.
        what: Name of the part, for error messages.
        unrecognized: Receives the statements that are neither a known fact nor prose.

    Raises:
        PageError: There are no entries, or they contradict each other.
    """
    by_parent, first = dict[str, list[Field]](), dict[str, "FieldEntry"]()
    listed = set[tuple[str, str]]()
    for entry in entries:
        if entry.parent.count(".") >= _MAXIMUM_DEPTH:
            raise PageError(
                f"The field {entry.name!r} is nested in more than {_MAXIMUM_DEPTH} others (line {entry.line})."
            )
        try:
            read = read_field(entry, unrecognized)
        except PageError as error:
            raise PageError(f"{str(error).rstrip('.')} (line {entry.line}).") from error
        siblings = by_parent.setdefault(entry.parent, [])
        if (entry.parent, entry.name) in listed:
            unrecognized.append(f"the second description of {read.name!r} under {entry.place.heading!r}")
            continue
        listed.add((entry.parent, entry.name))
        siblings.append(read)
        first.setdefault(entry.parent, entry)
    for parent, entry in first.items():
        if entry.is_dotted:
            _imply(parent, by_parent, entry.place)
    check_parents(by_parent, what)
    return tuple(_with_children(field, by_parent, field.name) for field in by_parent.pop(""))


def check_parents(by_parent: dict[str, list[Field]], what: str) -> None:
    """Check that the part lists fields, and the field of every parent."""
    if not by_parent.get(""):
        raise PageError(f"The page has no table or list of the fields of {what}.")
    names = {field.name for fields in by_parent.values() for field in fields}
    if orphans := {parent for parent in by_parent if parent.rpartition(".")[2] not in names and parent}:
        raise PageError(f"The page describes the properties of {min(orphans)!r}, but does not list that field.")


def _imply(path: str, by_parent: dict[str, list[Field]], place: Place) -> None:
    """Add the objects that only the dotted names of their fields state, such as ``data`` for ``data.taskId``."""
    outer, _, name = path.rpartition(".")
    siblings = by_parent.setdefault(outer, [])
    if not any(field.name == name for field in siblings):
        siblings.append(Field(name, {"type": RuleFact("object", place)}))
    if outer:
        _imply(outer, by_parent, place)


def _with_children(field: Field, by_parent: dict[str, list[Field]], path: str) -> Field:
    """Return a field with the fields that the page lists under its path, or under its name alone."""
    key = path if path in by_parent else field.name
    # Without the used key, a field that is listed as its own parent ends the recursion.
    others = {parent: fields for parent, fields in by_parent.items() if parent != key}
    fields = tuple(_with_children(child, others, f"{path}.{child.name}") for child in by_parent.get(key, ()))
    if field.items or (fields and field.rules["type"].value == "array"):
        rules = field.items.rules if field.items else {"type": RuleFact("object", field.rules["type"].place)}
        return replace(field, items=Field("", rules, fields=fields))
    return replace(field, fields=fields)


# --- one field -------------------------------------------------------------------------------------------------------


def read_field(entry: FieldEntry, unrecognized: list[str]) -> Field:
    """Return the field that an entry describes, without its children."""
    spec = parse_type(value_text(entry.cells["type"].segments), entry.name)
    rules = _type_rules(spec, entry)
    item_rules = _type_rules(spec.items, entry) if spec.items else {}
    prose = read_lines(entry, spec, rules, item_rules, unrecognized)
    default = value_text(entry.cells["default"].segments) if "default" in entry.cells else ""
    if not match_concept(default, "no default"):
        rules["default"] = RuleFact(parse_value(default, spec, entry.name), entry.at("default"))
    if (spec.items or spec).is_enum and "enum" not in (rules | item_rules) and entry.name not in {CODE, _MODEL}:
        options = [code for line in prose for code in line.codes]
        # A single code span is an example, a name or a value to avoid.
        if len(set(options)) <= 1:
            raise PageError(
                f"The page says that {entry.name!r} is an enum, but has no line {words_for('options')} for it."
            )
        (item_rules if spec.items else rules)["enum"] = RuleFact(
            _parsed_options(options, spec.items or spec, entry.name), entry.at("description")
        )
    notes = prose_notes((line.text for line in prose), item_rules | rules, entry.at("description"), spec.items)
    items = Field("", item_rules) if spec.items else None
    return Field(entry.name, rules, _required_rule(entry), items=items, notes=notes)


def read_lines(
    entry: FieldEntry,
    spec: TypeSpec,
    rules: dict[str, RuleFact],
    item_rules: dict[str, RuleFact],
    unrecognized: list[str],
) -> list[Segment]:
    """Add the rules that the lines of the description state, and return the lines that are prose."""
    lines, prose = entry.lines(), list["Segment"]()
    code_rows = {id(line) for _, line in code_lines(lines, is_code_field=entry.name == CODE)}
    for line in lines:
        concept = match_concept(line.label, *LABELS, "default") if line.label else ""
        if not concept and not line.inline:
            prose.append(line)
        values = dict(stated_values(concept, line, spec, entry.name))
        for keyword, value in values.items():
            is_of_items = spec.items and keyword not in _ARRAY_KEYWORDS
            if keyword == "examples":
                is_of_items = spec.items and not isinstance(value[0], list)
            target = item_rules if is_of_items else rules
            # A statement inside a sentence gives way to a line of its own.
            if not (line.inline and keyword in target):
                target[keyword] = RuleFact(value, entry.at("description", line.label))
        # A label without a colon is emphasis, and a label without text is a caption.
        is_statement = concept not in {"codes", "prose", "example"} and line.colon and line.text and not line.inline
        if not values and is_statement and id(line) not in code_rows:
            unrecognized.append(f"{line.label!r} of {entry.name!r} under {entry.place.heading!r}")
    return prose


def value_text(segments: Iterable[Segment]) -> str:
    """Return the value that lines state: their first code span if they start with it, or else their text."""
    for line in segments:
        if line.codes and line.text.lstrip("\"' ").startswith(line.codes[0].strip("\"' ")):
            return line.codes[0].strip()
        if line.text or line.label:
            return (line.text or line.label).strip().strip("`").strip()
    return ""


def _type_rules(spec: TypeSpec, entry: FieldEntry) -> dict[str, RuleFact]:
    place = entry.at("type")
    json_type: Any = [spec.type, "null"] if spec.is_nullable else spec.type
    return {"type": RuleFact(json_type, place)} | ({"format": RuleFact(spec.format, place)} if spec.format else {})


def _required_rule(entry: FieldEntry) -> RuleFact | None:
    if "required" not in entry.cells:
        return None
    text = entry.text("required")
    first = re.split(r"[\s,，;；(（]", text.strip())[0]
    if not (answer := match_concept(text, "yes", "no") or match_concept(first, "yes", "no")):
        words = f"{words_for('yes')}, {words_for('no')}"
        column = entry.columns["required"] or "required"
        raise PageError(f"The page says {text!r} under {column!r} for {entry.name!r}, which is not one of {words}.")
    return RuleFact(answer == "yes", entry.at("required"))


def code_lines(segments: Iterable[Segment], *, is_code_field: bool = False) -> Iterator[tuple[int, Segment]]:
    """Yield each code of the list that follows the label of the code list, with its line.

    Args:
        segments: The lines.
        is_code_field: Whether the lines describe the field of the code, where a list of codes needs no label.
    """
    inside = is_code_field
    for segment in segments:
        number = re.match(r"[-*•·\s]*(\d{3,5})\b", segment.label or segment.text)
        is_listed = bool(match_concept(segment.label, "codes")) or (inside and (bool(number) or not segment.label))
        inside = is_code_field or is_listed
        if inside and number and not segment.inline:
            yield int(number[1]), segment


# --- values of labelled lines ----------------------------------------------------------------------------------------


def stated_values(concept: str, line: Segment, spec: TypeSpec, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the keywords and values that a labelled line states."""
    item_spec = spec.items or spec
    try:
        if concept == "default":
            text = "" if line.inline and not line.codes else value_text([line])
            yield from [] if match_concept(text, "no default") else [(concept, parse_value(text, spec, name))]
        elif concept == "options":
            listed = list(listed_options(line))
            yield from [("enum", _parsed_options(listed, item_spec, name))] if listed else []
        elif concept == "example":
            yield from [("examples", [value]) for value in _examples(line, spec)]
        elif concept in {"pattern", "deprecated"}:
            yield from [(concept, True)] if concept == "deprecated" else [(concept, code) for code in line.codes[:1]]
        else:
            yield from limits(concept, line, spec, name)
    except PageError:
        # A sentence may contain the word of a label by chance.
        if not line.inline:
            raise


def limits(concept: str, line: Segment, spec: TypeSpec, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the keywords and values of a labelled number or range."""
    text = value_text([line])
    if concept in RANGES and not _RANGE.fullmatch(text):
        text = line.text
    if concept in LIMITS:
        yield from _applicable(concept, parse_number(text, name, whole=concept not in _MAY_HAVE_FRACTIONS), spec, name)
    elif concept in RANGES and (match := _RANGE.fullmatch(text)):
        low, high = (parse_number(match[end].rstrip(".,"), name) for end in ("low", "high"))
        for keyword, value in zip(RANGES[concept], (low, high), strict=True):
            yield from _applicable(keyword, value, spec, name)
        if step := _STEP.search(f"{match['rest']} {line.text}"):
            yield from _applicable("multipleOf", parse_number(step[1], name), spec, name)


def _applicable(keyword: str, value: float, spec: TypeSpec, name: str) -> Iterator[tuple[str, Any]]:
    """Yield a limit under the keyword that fits the type: ``Max: 5`` of an array limits its number of items."""
    types = {spec.type} | ({spec.items.type} if spec.items else set())
    if types & set(_TYPES_OF_LIMITS[keyword]):
        yield keyword, value
    elif keyword in {"minimum", "maximum"} and spec.type == "array":
        yield keyword.replace("imum", "Items"), value
    elif keyword in {"minItems", "maxItems", "minLength", "maxLength"} and spec.type in {"array", "string"}:
        yield keyword[:3] + ("Length" if spec.type == "string" else "Items"), value
    elif keyword != "multipleOf":
        raise PageError(f"The page gives {name!r} a {keyword}, which does not apply to its type {spec.type}.")


def listed_options(line: Segment) -> Iterator[str]:
    """Yield the options that a line lists: its code spans, or the words between commas, bars or slashes."""
    if line.codes:
        yield from line.codes
        return
    text = line.text.strip().rstrip("。.")
    for word in re.split(r"\s*(?:[,，、|;；]|\s/\s|\sor\s|或)\s*", text):
        # What follows an option in brackets says what it means.
        option = re.sub(r"\s*[(（].*", "", word, flags=re.DOTALL).strip(" `\"'“”")
        yield from [option] if option and len(option) <= _MAXIMUM_OPTION_CHARACTERS else []


def _parsed_options(options: Iterable[str], spec: TypeSpec, name: str) -> list[Any]:
    parsed = [parse_value(option.strip(), spec, name) for option in options]
    # Not a set, because options may be lists, and True equals 1.
    return list({json.dumps(value): value for value in parsed}.values())


def _examples(line: Segment, spec: TypeSpec) -> Iterator[Any]:
    """Yield the example if it is a fact. A contract copies facts from the vendor, not texts."""
    text = line.codes[0].strip() if line.codes and line.text.startswith(line.codes[0]) else line.text
    if not text or match_concept(text, "no default"):
        return
    if not re.search(r"\s", text):
        yield parse_example(text, spec)
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not is_prose(value) and not isinstance(value, str):
        yield value


def prose_notes(
    lines: Iterable[str], rules: Mapping[str, RuleFact], place: Place, items: TypeSpec | None = None
) -> tuple[Note, ...]:
    """Return the limits that the lines state, each once, without those that a rule states with the same value."""
    types = rules["type"].value if "type" in rules else ()
    types = [types] if isinstance(types, str) else list(types)
    types += [items.type] if items else []
    found = dict.fromkeys(limit for line in lines for limit in limits_in_prose(line, types))
    return tuple(
        Note(keyword, value, place)
        for keyword, value in found
        if not (keyword in rules and rules[keyword].value == value)
    )
