"""Generate the JSON Schema of the config file from the options of ``seedbed serve``.

Run it after a change to an option: ``python mock_server/generate_config_schema.py``. With ``--check`` it writes nothing
and exits with 1 if the schema in the package is not the one of the options.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from cyclopts import Argument
from seedbed_mock.cli import make_app
from seedbed_mock.durations import duration_profiles
from seedbed_mock.options import LONGEST_TASK, RANGES
from seedbed_mock.settings import MOST_CREDITS, NUMBER

TARGET = Path(__file__).parent / "seedbed_mock" / "seedbed.schema.json"

NO_FILE_OPTIONS = {"config"}
"""A config file cannot name another one."""

VISIBLE = "[!-~]{1,256}"
RATE = {"type": "string", "pattern": rf"^(off|0*[1-9]\d{{0,8}}/{NUMBER})$"}
CREDITS = {
    "anyOf": [{"type": "number", "minimum": 0, "maximum": MOST_CREDITS}, {"type": "string", "pattern": f"^{NUMBER}$"}]
}
LINE = {"type": "string", "minLength": 1, "pattern": r"^[^\0\r\n]+$"}
ACCOUNT = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": f"^{VISIBLE}$", "description": "The key."},
        "credits": {**CREDITS, "description": "Initial balance of its account."},
        "rate": {**RATE, "description": "Limit on new tasks of its account, as N/SECONDS, or off."},
        "signing-key": {**LINE, "description": "Key that signs the callbacks of its account."},
    },
}
KEY_TEXT = {"type": "string", "pattern": rf"^{VISIBLE}(:(credits|rate|signing-key)=.*)?$"}

FORMS: dict[str, dict[str, Any]] = {
    "key": {"anyOf": [KEY_TEXT, {"type": "array", "minItems": 1, "items": {"anyOf": [KEY_TEXT, ACCOUNT]}}]},
    "credits": CREDITS,
    "rate-limit": RATE,
    "poll-rate-limit": RATE,
    "control-token": {"type": "string", "pattern": f"^{VISIBLE}$"},
    "progress": {"type": "string", "pattern": r"^(time|hand|polls:0*[1-9]\d{0,5})$"},
    "public-url": {"type": "string", "pattern": r"^https?://[!-~]+$"},
    "scenario": {"type": "string"},
    "task-seconds": {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": LONGEST_TASK},
            {"type": "string", "pattern": rf"^{NUMBER}(\.\.{NUMBER})?$"},
            {"enum": list(duration_profiles())},
        ]
    },
}
"""What an option accepts, if that does not follow from its type."""

TYPES = {bool: "boolean", int: "integer", float: "number"}


def config_schema() -> dict[str, Any]:
    """Return the schema of a config file."""
    options = {
        argument.name.removeprefix("--"): argument
        for argument in make_app()["serve"].assemble_argument_collection(parse_docstring=True)
        if argument.parse and argument.name.startswith("--")
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Config file of seedbed serve",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "$schema": {"type": "string", "description": "Path or URL of this schema, for editors."},
            **{name: property_of(name, argument) for name, argument in options.items() if name not in NO_FILE_OPTIONS},
        },
    }


def property_of(name: str, argument: Argument) -> dict[str, Any]:
    """Return the schema of an option, with its description and its default."""
    default = argument.field_info.default
    described: dict[str, Any] = {"description": " ".join((argument.parameter.help or "").split())}
    # A default that is no text or number means that the option is not set.
    if isinstance(default, str | int | float) and default != "":
        described["default"] = default
    return {**(FORMS.get(name) or form_of(name, argument)), **described}


def form_of(name: str, argument: Argument) -> dict[str, Any]:
    """Return the schema that follows from the type of an option."""
    types = [*types_in(argument.hint)]
    literal = next((each for each in types if get_origin(each) is Literal), None)
    if literal:
        return {"enum": list(get_args(literal))}
    if (kind := next((TYPES[each] for each in types if each in TYPES), None)) is None:
        text = {"type": "string", "minLength": 1}
        is_repeatable = isinstance(argument.field_info.default, tuple)
        return {"anyOf": [text, {"type": "array", "items": text}]} if is_repeatable else text
    least, most = RANGES.get(name.replace("-", "_"), (None, None))
    validators: Any = argument.parameter.validator or ()
    for validator in validators:
        least, most = getattr(validator, "gte", least), getattr(validator, "lte", most)
    limits = {"minimum": least, "maximum": most}
    return {"type": kind, **{keyword: limit for keyword, limit in limits.items() if limit is not None}}


def types_in(hint: Any) -> Iterator[Any]:
    """Yield a type and those of which it is made; a literal is one type."""
    yield hint
    if get_origin(hint) is not Literal:
        for each in get_args(hint):
            yield from types_in(each)


def main(arguments: list[str]) -> int:
    """Write the schema, or compare it, and return the exit code."""
    text = json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"
    if "--check" not in arguments:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        print(f"{TARGET.name} is not up to date; run python mock_server/generate_config_schema.py.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
