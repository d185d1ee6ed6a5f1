"""Collect the error texts that the product can print, from its source.

A text is found where an exception is made, where something is written to standard error, and where a function that
reports errors is called. Names are followed to their assignments in the same function, and calls of functions of the
same module to what they return. A part that is only known when the program runs is ``…``. The messages of the
dialects belong to them, too.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "schemas/seedbed_schemas",
    "mock_server/seedbed_mock",
    "client/seedbed_client",
    "contract_tests/seedbed_contract",
)
GENERATED = {"_client.py", "_runner.py", "_transport.py"}  # their texts are those of their async twins
NAMED = {"fail", "warn", "note", "error_lines"}
"""Functions that print an error of the command that their first argument names."""

REPORTERS = {*NAMED, "_fail", "_report", "report", "complain", "print_error"}
"""Functions that print an error."""

REASONS = {"problem", "reason", "sentence", "complaint", "refusal"}
"""Variables that hold what an error says, and are often printed somewhere else."""

NOT_TEXTS = {"file", "fix", "docs", "kind"}
"""Keyword arguments that are no part of the sentence."""

UNSHOWN = {"AttributeError", "NotImplementedError", "KeyError"}
"""Exceptions that report a mistake in a program which Python itself words."""

PART = "…"
_PREFIX = re.compile(r"^seedbed(?: [a-z]+)*(?: …)?: ")
_DEPTH = 3


class Module:
    """One module and what its names stand for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = defaultdict(list)
        self.constants: dict[str, list[ast.expr]] = defaultdict(list)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions[node.name].append(node)
        for statement in self.tree.body:
            _note(statement, self.constants)

    def texts(self) -> set[str]:
        """Return the texts of the module."""
        found: set[str] = set()
        for function, node in _calls(self.tree):
            if self.reports(node):
                scope = _scope(function)
                skipped = 1 if name_of(node.func) in NAMED and len(node.args) > 1 else 0
                named = [keyword.value for keyword in node.keywords if keyword.arg not in NOT_TEXTS]
                for argument in (*node.args[skipped:], *named):
                    found |= self.expand(argument, scope, _DEPTH)
        for name, value in _assignments(self.tree):
            if name in REASONS:
                found |= self.expand(value, {}, _DEPTH)
        return found

    def reports(self, node: ast.Call) -> bool:
        """Whether a call makes an exception or prints an error."""
        name = name_of(node.func)
        if ast.unparse(node.func) == "super().__init__":  # an exception that words itself
            return True
        if name.endswith(("Error", "Refused", "Timeout")) or name in {"UsageError", "SystemExit", "cls"}:
            return name not in UNSHOWN
        to_stderr = any(word.arg == "file" and "stderr" in ast.unparse(word.value) for word in node.keywords)
        return name in REPORTERS or to_stderr or ast.unparse(node.func).endswith("stderr.write")

    def expand(self, node: ast.expr | None, scope: dict[str, list[ast.expr]], depth: int) -> set[str]:
        """Return the texts that an expression can have."""
        found = {PART}
        if depth >= 0:
            match node:
                case ast.Constant(value=str(text)):
                    found = {text}
                case ast.JoinedStr(values=parts):
                    found = self._joined(parts, scope, depth)
                case ast.BinOp(left=left, op=ast.Add(), right=right):
                    found = self._joined([left, right], scope, depth)
                case ast.FormattedValue(value=value):
                    found = self._inner(value, scope, depth)
                case ast.IfExp() | ast.BoolOp():
                    options = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
                    found = {text for option in options for text in self.expand(option, scope, depth)}
                case ast.Name() | ast.Call():
                    found = self._followed(node, scope, depth)
        return found

    def _joined(self, nodes: list[ast.expr], scope: dict[str, list[ast.expr]], depth: int) -> set[str]:
        texts = {""}
        for node in nodes:
            texts = {text + end for text in texts for end in self.expand(node, scope, depth)}
        return texts

    def _inner(self, node: ast.expr, scope: dict[str, list[ast.expr]], depth: int) -> set[str]:
        """Return the texts of a value inside of a text: what is chosen between literals is spelt out."""
        literals = isinstance(node, ast.IfExp) and all(
            isinstance(each, ast.Constant) for each in (node.body, node.orelse)
        )
        return self.expand(node, scope, depth - 1) if literals else {PART}

    def _followed(self, node: ast.expr, scope: dict[str, list[ast.expr]], depth: int) -> set[str]:
        if isinstance(node, ast.Name):
            values = scope.get(node.id) or self.constants.get(node.id) or []
            return {text for value in values for text in self.expand(value, scope, depth - 1)} or {PART}
        if isinstance(node, ast.Call):
            return {
                text
                for function in self.functions.get(name_of(node.func), ())
                for each in ast.walk(function)
                if isinstance(each, ast.Return)
                for text in self.expand(each.value, _scope(function), depth - 1)
            } or {PART}
        return {PART}


def name_of(node: ast.expr) -> str:
    """Return the last word of the name of a function."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@cache
def _scope(function: ast.AST | None) -> dict[str, list[ast.expr]]:
    """Return what a function gives to its names."""
    scope: dict[str, list[ast.expr]] = defaultdict(list)
    for node in ast.walk(function) if function else ():
        _note(node, scope)
    return scope


def _note(node: ast.AST, scope: dict[str, list[ast.expr]]) -> None:
    """Note what an assignment gives to a name."""
    for name, value in _given(node):
        scope[name].append(value)


def _assignments(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(tree):
        yield from _given(node)


def _given(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that an assignment gives a value to."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                match target, value:
                    case ast.Name(id=name), _:
                        yield name, value
                    case ast.Tuple(elts=names), ast.Tuple(elts=values):
                        yield from (
                            (each.id, part)
                            for each, part in zip(names, values, strict=False)
                            if isinstance(each, ast.Name)
                        )
        case (
            ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            | ast.NamedExpr(target=ast.Name(id=name), value=value)
        ):
            yield name, value


def _calls(tree: ast.AST, function: ast.AST | None = None) -> list[tuple[ast.AST | None, ast.Call]]:
    """Return every call with the innermost function that it is in."""
    found = []
    for node in ast.iter_child_nodes(tree):
        inner = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(node, ast.Call):
            found.append((inner, node))
        found += _calls(node, inner)
    return found


def pattern_of(text: str) -> str:
    """Return a text as the page writes it: on one line, without the name of the command and the period at its end."""
    return _PREFIX.sub("", re.sub(rf"{PART}(?:{PART})+", PART, " ".join(text.split()))).rstrip(".")


def is_worded(pattern: str) -> bool:
    """Whether a pattern has words of its own; a name, a flag or a frame around another error has none."""
    return len(re.findall(r"[A-Za-z']{2,}", pattern.replace(PART, " "))) > 1 and " " in pattern


def _texts_of_code() -> Iterator[tuple[str, Path]]:
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        if path.name not in GENERATED:
            yield from ((text, path) for text in sorted(Module(path).texts()))


def _texts_of_dialects() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "schemas/seedbed_schemas/dialects").glob("*ed.json")):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"].values():
            for message in (case["message"], *case.get("other_messages", ())):
                yield re.sub(r"\{\w+\}", PART, message), path


@cache
def error_texts() -> dict[str, str]:
    """Return the patterns of all error texts, with the place of each in the source."""
    found: dict[str, str] = {}
    for text, path in (*_texts_of_code(), *_texts_of_dialects()):
        if is_worded(pattern := pattern_of(text)):
            found.setdefault(pattern, path.relative_to(ROOT).as_posix())
    return found
