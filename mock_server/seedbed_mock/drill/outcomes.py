"""What a drill remembers for the next one: the outcomes of explored cases, as long as the program is the same.

A program is the same if its command, its environment, the options of the drill, the version of Seedbed and the contract
are the same, and all files that were found with it. These are the files of the working directory and of the folders of
the files that the command names, and the names of the packages that are installed with its interpreter. Files that the
program writes by itself do not count: those that appeared while a drill ran, or that changed in its calm run and again
later.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from seedbed_schemas import __version__
from seedbed_schemas.files import write_whole

from seedbed_mock.catalogue import ModelCatalogue
from seedbed_mock.settings import state_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from seedbed_mock.drill.runner import Drill

    _Files = dict[str, tuple[int, int]]


_MOST_FILES: Final = 5000
_MOST_BYTES: Final = 256 * 1024 * 1024
_NO_PROGRAM: Final = frozenset({"__pycache__", "node_modules"})
_NPM_LOCK: Final = ".package-lock.json"
"""File in ``node_modules`` that names the versions of all installed packages."""

_OF_TERMINALS: Final = frozenset(
    {"_", "SHLVL", "PWD", "OLDPWD", "COLUMNS", "LINES", "TERM", "COLORTERM", "WINDOWID", "PYTEST_CURRENT_TEST"}
)
"""Environment variables that differ from one terminal to the next, and on which no verdict should depend."""


class CaseOutcome(msgspec.Struct, frozen=True):
    """What came of one case.

    Attributes:
        failed: Names of the rules that the program broke.
        occurred: Whether the fault occurred.
    """

    failed: tuple[str, ...]
    occurred: bool


class _Remembered(msgspec.Struct):
    files: dict[str, str]
    written: list[str]
    cases: dict[str, CaseOutcome]


class CaseMemory:
    """The outcomes of explored cases of one program, in a file of the state folder.

    Args:
        drill: The drill; its calm run has not begun.
        own: Files that the drill writes itself.
        is_used: Whether to remember anything.

    Attributes:
        problem: Why nothing is remembered although it should be, in one sentence; empty if it is.
    """

    def __init__(self, drill: Drill, own: Collection[Path] = (), *, is_used: bool = True) -> None:
        self._is_used, self._own = is_used, {str(each.absolute()) for each in own}
        self._roots = _roots(drill.command)
        self._path = state_folder() / "drill" / f"{_key(drill)}.json"
        self.problem = ""
        self._before = self._after_calm = self._files()
        self._written = set[str]()

    def recall(self) -> dict[str, CaseOutcome]:
        """Return the outcomes by the rules of their cases; none if the program has changed. The calm run has ended."""
        self._after_calm = self._files()
        if not self._is_used:
            return {}
        try:
            earlier = msgspec.json.decode(self._path.read_bytes(), type=_Remembered)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
        ignored = {*earlier.written, *_changed(self._before, self._after_calm)}
        present = self._digests(ignored)
        if present != {name: digest for name, digest in earlier.files.items() if name not in ignored}:
            return {}
        self._written = set(earlier.written)
        return earlier.cases

    def keep(self, cases: Mapping[str, CaseOutcome]) -> None:
        """Remember outcomes in place of those of earlier drills, if the program stayed the same while the drill ran."""
        if not self._is_used:
            return
        now = self._files()
        in_calm, later = _changed(self._before, self._after_calm), _changed(self._after_calm, now)
        appeared = now.keys() - self._before.keys()
        written = self._written | appeared | (in_calm & later)
        if edited := sorted(later - written):
            self.problem = self.problem or f"Nothing is remembered: {edited[0]} changed while the drill ran."
        if self.problem:
            return
        content = msgspec.json.encode(_Remembered(self._digests(written), sorted(written), dict(cases)))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path, content)
        except OSError as error:
            self.problem = f"Nothing is remembered: {error.filename}: {error.strerror}."

    def _files(self) -> _Files:
        """Return the files of the program with the time and size by which a change shows."""
        found: _Files = {}
        if not self._is_used or self.problem:
            return found
        size = 0
        for path in _walk(self._roots):
            try:
                status = path.stat()
            except OSError:
                continue
            found[str(path)] = status.st_mtime_ns, status.st_size
            size += status.st_size
            if len(found) > _MOST_FILES or size > _MOST_BYTES:
                self.problem = (
                    f"Nothing is remembered: there are too many files beside the program to know whether it changed, "
                    f"in {path.parent}."
                )
                return {}
        return {name: state for name, state in found.items() if name not in self._own}

    def _digests(self, ignored: Collection[str]) -> dict[str, str]:
        """Return what the files of the program contain now."""
        found = {}
        for name in self._files():
            if name not in ignored:
                try:
                    found[name] = hashlib.sha256(Path(name).read_bytes()).hexdigest()
                except OSError:
                    found[name] = ""
        return found


def _changed(before: _Files, after: _Files) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _key(drill: Drill) -> str:
    """Return a name that is the same for drills that can share outcomes, unless the files of the program differ."""
    contracts = {
        name: model.contract.document for name, model in ModelCatalogue(drill.options.patched_contracts).models.items()
    }
    environment = {name: value for name, value in os.environ.items() if name not in _OF_TERMINALS}
    executable = Path(shutil.which(drill.command[0]) or drill.command[0])
    packages = [
        (path.name, path.stat().st_mtime_ns)
        for path in sorted(executable.parent.parent.glob("lib/python*/site-packages/*"))
        if path.exists()
    ]
    status = executable.stat() if executable.exists() else None
    parts = (
        __version__,
        contracts,
        drill.command,
        str(Path.cwd()),
        environment,
        f"{drill.options.key!r} {drill.options!r} {drill.deadline}",
        [str(executable), status and status.st_mtime_ns, status and status.st_size],
        packages,
    )
    return hashlib.sha256(msgspec.json.encode(parts, enc_hook=str)).hexdigest()[:32]


def _roots(command: tuple[str, ...]) -> set[Path]:
    """Return the folders that the program may consist of: the working directory, and those of the files it is given."""
    named = {Path(word).absolute().parent for word in command[1:] if _is_file(word)}
    return {Path.cwd(), *named}


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):
        return False


def _walk(roots: Collection[Path]) -> Iterator[Path]:
    """Yield the files below some folders, without those of caches, installed packages and version control."""
    for root in sorted(roots):
        for folder, below, names in os.walk(root):
            here = Path(folder)
            if (lock := here / "node_modules" / _NPM_LOCK).is_file():
                yield lock
            below[:] = [
                name
                for name in below
                if not (name.startswith(".") or name in _NO_PROGRAM or (here / name / "pyvenv.cfg").is_file())
            ]
            yield from (here / name for name in names)
