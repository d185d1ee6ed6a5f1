"""The examples of the README and of the pages in ``docs``, run as they are printed."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from seedbed_mock import running
from seedbed_mock.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))]


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the blocks of code of a page, each with its language."""
    return re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)


def programs(page: str) -> list[tuple[str, str]]:
    """Return the programs of a page, each with what it prints."""
    found = blocks(page)
    return [
        (code, after if kind == "text" else "")
        for (language, code), (kind, after) in zip(found, [*found[1:], ("", "")], strict=True)
        if language == "python"
    ]


BLOCKS = blocks(README)
PROGRAMS = [program for page in PAGES for program in programs(page)]


@pytest.mark.parametrize(("code", "output"), PROGRAMS, ids=lambda text: text.split("\n")[0][:40])
def test_a_program_does_what_its_page_says(code: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "<page>", "exec"), {"__name__": "page"})  # noqa: S102
    assert capsys.readouterr().out == output


def test_the_first_image_is_saved_as_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (command,) = (code for _, code in BLOCKS if code.startswith("seedbed generate"))
    with running(task_seconds=0) as server:
        monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
        assert main(shlex.split(command)[1:]) == 0
    with Image.open("hill.jpg") as image:
        assert f"{image.width} × {image.height} pixels" in README


def test_the_two_commands_that_set_everything_up_are_in_the_readme() -> None:
    commands = [code.strip() for language, code in BLOCKS if language == "console"]
    assert "pip install . && seedbed serve" in commands
    assert "pip install -e '.[dev]' && pytest" in commands
