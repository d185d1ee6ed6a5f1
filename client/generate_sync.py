"""Generate the blocking modules of the client from the asynchronous ones, and the types of the input from the contract.

Run it after a change to one of the sources or the contract: ``python client/generate_sync.py``. With ``--check`` it
writes nothing and exits with 1 if a generated module is not what its source makes.
"""

import re
import subprocess
import sys
from pathlib import Path

from seedbed_schemas import default_contract

PACKAGE = Path(__file__).parent / "seedbed_client"
SOURCES = ("_async_client.py", "_async_runner.py", "_async_transport.py")
TYPES = "_contract_types.py"

HEADER = "# Generated from {source} by client/generate_sync.py: do not edit.\n"

REPLACEMENTS = (
    # Phrases first: they describe the module that they are in.
    (r"An asynchronous", "A blocking"),
    (r"The asynchronous", "The blocking"),
    (r"the tasks of an event loop may share it", "threads may share it"),
    (r"Awaitable\[object\]", "object"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bwait_async\b", "wait"),
    (r"\banyio\b", "time"),
    (r"\bAnyIOBackend\b", "SyncBackend"),
    (r"\b(handle)_async_(request)\b", r"\1_\2"),
    (r"\ba(close|iter_bytes|iter_stream|trace)\b", r"\1"),
    (r"__a(enter|exit|iter)__", r"__\1__"),
    (r"(?<![A-Za-z])Async(?=[A-Z])", ""),
    (r"\b_async_", "_"),
)


def generate(source: Path) -> str:
    """Return the blocking twin of a module, formatted as ruff formats it."""
    text = source.read_text(encoding="utf-8")
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    # What the linter asks of blocking code: sorted imports, none unused, "yield from", one "with" for two.
    path = str(target_of(source))
    fixes = "F401,I,SIM117,UP028"
    tidy = ruff(text, "check", "--fix", "--unsafe-fixes", "--quiet", "--select", fixes, "--stdin-filename", path, "-")
    return HEADER.format(source=source.name) + ruff(tidy, "format", "--stdin-filename", path, "-")


def generate_types() -> str:
    """Return a module with a type for each field of the input that takes one of several values."""
    lines = [
        "# Generated from the contract by client/generate_sync.py: do not edit.",
        f'"""The values of the input of {default_contract().model}, as types."""\n',
        "from typing import Literal, TypeAlias",
    ]
    for name, schema in default_contract().input_fields.items():
        if "enum" in schema:
            values = ", ".join(map(repr, schema["enum"]))
            lines += [
                f"{name.title().replace('_', '')}: TypeAlias = Literal[{values}]",
                f'"""{schema["description"]}"""',
            ]
    return ruff("\n".join(lines), "format", "--stdin-filename", str(PACKAGE / TYPES), "-")


def ruff(text: str, *arguments: str) -> str:
    """Return the output of a ruff command for a text."""
    command = [sys.executable, "-m", "ruff", *arguments]
    return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=True).stdout


def target_of(source: Path) -> Path:
    """Return the module that is generated from a source."""
    return source.with_name(source.name.replace("_async_", "_", 1))


def main(arguments: list[str]) -> int:
    """Write the generated modules, or compare them with ``--check``, and return the exit code."""
    stale = []
    generated = {target_of(PACKAGE / name): generate(PACKAGE / name) for name in SOURCES}
    for target, text in {**generated, PACKAGE / TYPES: generate_types()}.items():
        if not target.exists() or target.read_bytes() != text.encode():
            stale.append(target.name)
        if "--check" not in arguments:
            target.write_bytes(text.encode())
    if "--check" in arguments and stale:
        print(f"{', '.join(stale)}: not up to date; run python client/generate_sync.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
