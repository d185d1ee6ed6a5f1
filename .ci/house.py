"""Measure the shape of the code: how deep its modules are, and how often its names repeat.

Run ``python .ci/house.py`` in a checkout. It prints each figure beside its limits and exits 1 where one is outside
them; ``--list`` also prints the places behind the figures. Name packages, such as ``client/seedbed_client``, to
measure only these.
"""

from __future__ import annotations

import ast
import sys
import tokenize
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "schemas/seedbed_schemas",
    "mock_server/seedbed_mock",
    "client/seedbed_client",
    "contract_tests/seedbed_contract",
)
SHARED_MODULE_NAMES = {"cli", "openapi", "tasks", "__init__"}
SHARED_CLASS_NAMES = {"Task"}  # the same thing, as the server and the client see it


@dataclass
class Counts:
    """What was counted over the modules of some packages."""

    modules: list[Path] = field(default_factory=list)
    lines: int = 0
    import_lines: int = 0
    comments: int = 0
    noqa: list[str] = field(default_factory=list)
    functions: int = 0
    used_once: list[str] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add_package(self, folder: Path) -> None:
        """Count all modules of a package."""
        private: dict[str, list[str]] = defaultdict(list)
        uses: Counter[str] = Counter()
        called: set[str] = set()
        for path in sorted(folder.rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            self.modules.append(path)
            self._add_comments(path, place)
            text = path.read_text(encoding="utf-8")
            self.lines += text.count("\n")
            for node in ast.walk(ast.parse(text)):
                self._add_node(node, place)
                if isinstance(node, ast.Call):
                    called.add(getattr(node.func, "id", "") or getattr(node.func, "attr", ""))
                if isinstance(node, ast.Name):
                    uses[node.id] += 1
                elif isinstance(node, ast.Attribute):
                    uses[node.attr] += 1
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] == "_" != node.name[1]:
                    private[node.name].append(f"{place}:{node.lineno}: {node.name}")
        # A function that is named once in a table, or handed over as a callback, could not stand where it is named.
        self.used_once += [
            places[0] for name, places in private.items() if uses[name] == len(places) == 1 and name in called
        ]

    def _add_node(self, node: ast.AST, place: str) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.import_lines += (node.end_lineno or node.lineno) - node.lineno + 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.functions += 1
        elif isinstance(node, ast.ClassDef):
            self.classes[node.name].append(place)

    def _add_comments(self, path: Path, place: str) -> None:
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.COMMENT:
                    self.comments += not token.string.startswith(("# noqa", "# type:"))
                    if "noqa" in token.string:
                        self.noqa.append(f"{place}:{token.start[0]}: {token.string}")

    def repeated_classes(self) -> list[str]:
        """Return the class names that stand for several things."""
        repeated = {name: places for name, places in self.classes.items() if len(places) > 1}
        return [f"{name}: {', '.join(places)}" for name, places in repeated.items() if name not in SHARED_CLASS_NAMES]

    def repeated_modules(self) -> list[str]:
        """Return the module names that stand for several modules."""
        names = Counter(path.stem for path in self.modules)
        return [name for name, count in names.items() if count > 1 and name not in SHARED_MODULE_NAMES]


def main(arguments: list[str]) -> int:
    """Print the figures and return 1 if one is outside its limits."""
    counts = Counts()
    for package in [word for word in arguments if not word.startswith("-")] or PACKAGES:
        counts.add_package(ROOT / package)
    classes, modules = counts.repeated_classes(), counts.repeated_modules()
    figures = (
        ("modules", len(counts.modules), 0, 240),
        ("lines per module", counts.lines / len(counts.modules), 170, None),
        ("private functions used once, % of functions", 100 * len(counts.used_once) / counts.functions, 0, 10),
        ("import lines, % of lines", 100 * counts.import_lines / counts.lines, 0, 7),
        ("comment lines per 100", 100 * counts.comments / counts.lines, 2, 6),
        ("noqa", len(counts.noqa), 0, 30),
        ("module names used twice", len(modules), 0, 0),
        ("class names used twice", len(classes), 0, 0),
    )
    failed = False
    for name, value, least, most in figures:
        is_inside = value >= least and (most is None or value <= most)
        failed = failed or not is_inside
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        print(f"{name:<46} {value:8.1f}  {'' if is_inside else 'OUTSIDE '}{limits}")
    if "--list" in arguments:
        lists = {"used once": counts.used_once, "noqa": counts.noqa, "classes": classes, "modules": modules}
        for title, rows in lists.items():
            print(f"\n{title}:", *rows, sep="\n  ")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
