"""Generate the blocking modules of the client from the asynchronous ones.

Run it after a change to one of the sources: ``python client/generate_sync.py``. With ``--check`` it writes nothing and
exits with 1 if a generated module is not what its source makes.
"""

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "seedbed_client"
SOURCES = ("_async_client.py",)

HEADER = "# Generated from {source} by client/generate_sync.py: do not edit.\n"

REPLACEMENTS = (
    # Sentences first: they name the twin that they describe.
    (r"An asynchronous client", "A blocking client"),
    (r"the tasks of an event loop may share it", "threads may share it"),
    (r"Awaitable\[object\]", "object"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b_async_", "_"),
)


def generate(source: Path) -> str:
    """Return the blocking twin of a module, formatted as ruff formats it."""
    text = source.read_text(encoding="utf-8")
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    # The replacements leave imports unsorted or unused, and lines that now fit on one.
    path = str(target_of(source))
    tidy = ruff(text, "check", "--fix", "--quiet", "--select", "F401,I", "--stdin-filename", path, "-")
    return HEADER.format(source=source.name) + ruff(tidy, "format", "--stdin-filename", path, "-")


def ruff(text: str, *arguments: str) -> str:
    """Return what ruff makes of a text."""
    command = [sys.executable, "-m", "ruff", *arguments]
    return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=True).stdout


def target_of(source: Path) -> Path:
    """Return the module that is generated from a source."""
    return source.with_name(source.name.replace("_async_", "_", 1))


def main(arguments: list[str]) -> int:
    """Write the generated modules, or compare them with ``--check``, and return the exit code."""
    stale = []
    for source in (PACKAGE / name for name in SOURCES):
        target, text = target_of(source), generate(source)
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
