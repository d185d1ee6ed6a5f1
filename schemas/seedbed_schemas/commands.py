"""What the commands of all packages share: exit codes, errors, and output for programs.

A command reports an error with :func:`fail`, which prints it and returns the exit code. With ``--json``, standard
output has JSON and nothing else, and standard error has one JSON object on a line for each error and each warning.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import sys
import traceback
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from cyclopts import Parameter

from seedbed_schemas import local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class ExitCode(IntEnum):
    """How a command ended. The codes mean the same for all commands.

    Attributes:
        meaning: What it means, in a few words.
    """

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """Return the member with a value and its meaning."""
        member = int.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member

    DONE = 0, "done"
    NEGATIVE = 1, "negative verdict"
    USAGE = 2, "usage error, or nothing can be concluded"
    INTERNAL = 3, "internal error"
    IN_DOUBT = 4, "in doubt: a charge may have happened"
    RETRY = 5, "safe to retry"
    INTERRUPTED = 130, "interrupted by Ctrl-C"
    OUTPUT_CLOSED = 141, "the reader of the output has gone"
    TERMINATED = 143, "terminated by SIGTERM"


SECRET_OPTIONS: Final = frozenset({"--key", "--second-key", "--signing-key", "--control-token"})
"""Options whose values no output may contain."""

JsonFlag = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]
"""The option ``--json`` of a command."""

JSON_OPTION: Final = "--json"
TRACEBACK_VARIABLE: Final = "SEEDBED_TRACEBACK"
"""Environment variable that makes an internal error show its traceback."""

_ISSUES: Final = "https://github.com/seedbed/seedbed/issues"
_SHORTEST_SECRET: Final = 6
_HIDDEN: Final = "***"
_USER_INFO: Final = re.compile(r"(?<=://)[^/\s@'\"]+@")
_BEARER: Final = re.compile(r"(?i)(\b(?:bearer|basic) +)[\w.~+/=:-]{6,}")
_QUOTED: Final = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)|`[^`]*`")
_FIX: Final = re.compile(r"; |(?<=[.?]) (?=[A-Z])")


class CommandError(Exception):
    """A command cannot do what it was asked to do; whoever calls the command prints it.

    Args:
        text: What is wrong, and what to do about it, as for :func:`fail`.
        code: Exit code.
        fix: What to do about it, as sentences.
        docs: Topic of the documentation.
    """

    def __init__(self, text: str, code: int = ExitCode.USAGE, *, fix: str = "", docs: str = "") -> None:
        super().__init__(text)
        self.code, self.fix, self.docs = code, fix, docs

    def print(self, command: str = "") -> int:
        """Print the error of a command, by default of the one that runs, and return its exit code."""
        return fail(command or _session.command, str(self), self.code, fix=self.fix, docs=self.docs)


@dataclass(slots=True)
class _Session:
    """The state of the running command.

    Attributes:
        command: Its name after ``seedbed``.
        is_json: Whether ``--json`` was passed.
        secrets: Texts that are hidden in what is printed.
        topics: Topics of the documentation that were named.
    """

    command: str = ""
    is_json: bool = False
    secrets: set[str] = field(default_factory=set)
    topics: set[str] = field(default_factory=set)


_outside: Final = _Session()
"""The session of a program that runs no command, such as a test with a server."""

_session = _outside


@contextlib.contextmanager
def session(tokens: Sequence[str], groups: Iterable[str] = ()) -> Iterator[list[str]]:
    """Begin a command, which shares no state with an earlier one in the same process.

    As the value of the ``with`` statement, return the command line with ``--json`` after the name of the command,
    before which it may stand, too.

    Args:
        tokens: The command line after ``seedbed``.
        groups: Commands that have subcommands.
    """
    global _session  # noqa: PLW0603 (a process runs one command, whose threads print its errors, too)
    leading = next((place for place, token in enumerate(tokens) if token != JSON_OPTION), len(tokens))
    rest = [*tokens[leading:]]
    most = 2 if rest[:1] and rest[0] in groups else 1
    names = [*itertools.takewhile(lambda token: not token.startswith("-"), rest[:most])]
    before, _session = _session, _Session(" ".join(names))
    on_unraisable = sys.unraisablehook
    own = rest[: rest.index("--")] if "--" in rest else rest
    has_command = len(names) == most
    use_json(wanted=bool(leading) or JSON_OPTION in own or f"{JSON_OPTION}=true" in own)
    for token, following in itertools.pairwise([*own, ""]):
        name, equals, value = token.partition("=")
        if name in SECRET_OPTIONS:
            hide(value if equals else following)
    try:
        if not has_command:
            # Help pages, versions and groups of commands have no options.
            yield [token for token in rest if token != JSON_OPTION]
        else:
            yield [*names, JSON_OPTION, *rest[len(names) :]] if leading else rest
    finally:
        sys.unraisablehook = on_unraisable
        _session = before


def use_json(*, wanted: bool = True) -> None:
    """Let the running command print JSON."""
    _session.is_json = wanted


def is_json() -> bool:
    """Return whether the running command prints JSON."""
    return _session.is_json


def hide(*texts: str) -> None:
    """Hide secrets in all that the running command prints with the functions of this module.

    Args:
        texts: Secrets, or values of ``--key`` such as ``KEY:credits=80,signing-key=SECRET``.
    """
    for text in texts:
        parts = {text, text.partition(":")[0], *re.findall(r"signing-key=([^,]+)", text)}
        # A short text occurs everywhere. The key of the local mock server is no secret.
        _session.secrets |= {part for part in parts if len(part) >= _SHORTEST_SECRET and part != local.KEY}


def redacted(text: str) -> str:
    """Return a text without the secrets of the running command and without the user information of URLs."""
    for secret in sorted(_session.secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return _BEARER.sub(rf"\1{_HIDDEN}", _USER_INFO.sub(f"{_HIDDEN}@", text))


def _without_secrets(value: Any) -> Any:
    """Return a value for JSON, in which secrets are hidden in all texts but the names."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {name: _without_secrets(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(each) for each in value]
    return value


def json_text(value: object, *, indent: int | None = None, is_ascii: bool = False) -> str:
    """Return a value as JSON with a newline, without secrets.

    Args:
        value: The value.
        indent: Number of spaces of each level; by default, the value is one line.
        is_ascii: Whether to escape other characters than those of ASCII.

    Raises:
        ValueError: The value has a number that JSON does not have.
    """
    content = _without_secrets(value)
    text = json.dumps(content, ensure_ascii=is_ascii, allow_nan=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, of which JSON has only the escape
        text = json.dumps(content, allow_nan=False, indent=indent)
    return f"{text}\n"


def print_json(value: object, *, indent: int | None = None) -> None:
    """Print a value as JSON in UTF-8 on standard output, whatever its encoding is.

    Args:
        value: The value.
        indent: Number of spaces of each level; by default, the value is one line.

    Raises:
        OSError: Standard output cannot be written.
        ValueError: The value has a number that JSON does not have.
    """
    write_output(json_text(value, indent=indent))


def write_output(text: str) -> None:
    """Write a text to standard output in UTF-8, whatever its encoding is.

    Raises:
        OSError: Standard output cannot be written.
    """
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def schema_path(command: str) -> Path:
    """Return the path of the JSON Schema of what ``--json`` prints: of the whole output, or of each of its lines.

    Args:
        command: Name of the command, such as ``faults list``; ``error`` for standard error, ``help`` for a help page.
    """
    return Path(__file__).parent / "output" / f"{command.removeprefix('--').replace(' ', '-')}.json"


def split_fix(text: str) -> tuple[str, str]:
    """Return the sentence of an error, and what to do about it; empty if the text does not say.

    Error messages have the form ``SENTENCE; FIX`` or ``SENTENCE. FIX``. What is quoted belongs to neither form.
    """
    masked = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)
    if place := _FIX.search(masked):
        sentence, fix = text[: place.start()], text[place.end() :]
        return _as_sentence(sentence), _as_sentence(fix[:1].upper() + fix[1:])
    return _as_sentence(text), ""


def _as_sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "?")) or not text else f"{text}."


def _on_one_line(text: str) -> str:
    from seedbed_schemas.validation import printable  # it loads two JSON Schema libraries, which few commands need

    return printable(redacted(re.sub(r"\s*[\n\r\t]\s*", " ", text).strip()))


def fail(command: str, text: str, code: int = ExitCode.USAGE, *, fix: str = "", docs: str = "") -> int:
    """Print the error of a command, and return its exit code.

    Args:
        command: Name of the command after ``seedbed``; empty for the program as a whole.
        text: What is wrong, and what to do about it unless ``fix`` says that: ``SENTENCE; FIX`` or ``SENTENCE. FIX``.
        code: Exit code.
        fix: What to do about it, as sentences.
        docs: Topic of the documentation, as PAGE or PAGE#ANCHOR; by default, the section about the command.
    """
    _report("error", command, text, fix=fix, docs=docs)
    return code


def warn(command: str, text: str, *, fix: str = "", docs: str = "") -> None:
    """Print a problem that does not end a command; the arguments are those of :func:`fail`."""
    _report("warning", command, text, fix=fix, docs=docs)


def note(command: str, text: str) -> None:
    """Print a remark on standard error, unless the command prints JSON."""
    if not is_json():
        _print_error(f"seedbed{command and f' {command}'}: {_on_one_line(text)}")


def _print_error(line: str) -> None:
    # A closed standard error must not change how a command ends.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)


def _report(kind: Literal["error", "warning"], command: str, text: str, **parts: str) -> None:
    for line in error_lines(command, text, kind=kind, **parts):
        _print_error(line)


def error_lines(
    command: str,
    text: str,
    *,
    kind: Literal["error", "warning"] = "error",
    fix: str = "",
    docs: str = "",
    **more: str,
) -> list[str]:
    """Return the lines that :func:`fail` prints, for a command that prints them in its own way.

    Args:
        command: As for :func:`fail`.
        text: As for :func:`fail`.
        kind: Whether it ends the command.
        fix: As for :func:`fail`.
        docs: As for :func:`fail`.
        more: Further members of the JSON object.
    """
    topic = docs or topic_of(command, f"{text} {fix}")
    text, fix = _on_one_line(text), _on_one_line(fix)
    if is_json():
        sentence, own_fix = (text, fix) if fix else split_fix(text)
        own_fix = own_fix or f"Run seedbed docs {topic}."
        return [json.dumps({kind: _as_sentence(sentence), "fix": own_fix, "docs": topic, **more})]
    lines = [f"seedbed{command and f' {command}'}: {_as_sentence(text)}{fix and f' {fix}'}"]
    # Once: a batch reports the same problem of many images.
    if topic not in _session.topics:
        if _session is not _outside:
            _session.topics.add(topic)
        lines.append(f"docs: {topic}")
    return lines


def topic_of(command: str, text: str) -> str:
    """Return the topic of the documentation about an error text, or else about the command that prints it."""
    from seedbed_schemas.documentation import entry_of, sections  # they read all pages, which only errors need

    entry = entry_of(text)
    section = f"commands#seedbed-{command.removeprefix('--').partition(' ')[0]}"
    return entry.topic if entry else section if section in sections() else "commands"


def describe_exception(error: BaseException) -> str:
    """Return an unexpected exception as one sentence that names its place in the code."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(place[0].filename).name}, line {place[0].lineno}" if place else ""
    return f"{type(error).__name__}{where}: {error}" if str(error) else f"{type(error).__name__}{where}"


def fail_internally(error: BaseException) -> int:
    """Print an exception that is a mistake of this program, and return the exit code."""
    with_traceback = bool(os.environ.get(TRACEBACK_VARIABLE))
    text = f"internal error: {describe_exception(error).rstrip('.')}."
    hint = f"the traceback, which {TRACEBACK_VARIABLE}=1 shows"
    fix = f"This is a bug; please report it at {_ISSUES} with {'this output' if with_traceback else hint}."
    lines = redacted("".join(traceback.format_exception(error))) if with_traceback else ""
    if lines and not is_json():
        _print_error(lines.rstrip())
    more = {"traceback": lines} if lines and is_json() else {}
    _report("error", _session.command, text, fix=fix, docs="commands#exit-codes", **more)
    return ExitCode.INTERNAL


def interrupted() -> int:
    """Return the exit code of a command that Ctrl-C has ended. With ``--json``, print that; a person knows."""
    # What was interrupted while it was made may complain when it is freed, as a response does since Python 3.13.
    sys.unraisablehook = lambda _: None
    if is_json():
        _report("error", _session.command, "interrupted by Ctrl-C", docs="commands#exit-codes")
    return ExitCode.INTERRUPTED
