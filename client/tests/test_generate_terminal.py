"""``seedbed generate`` on a terminal: what stays on the screen, what the display looks like, and what pipes receive."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from seedbed_client.cli.batch import ProgressDisplay, with_true_suffix
from seedbed_mock import MockServer, running

termios = pytest.importorskip("termios", reason="there are no terminals of this kind on Windows")

JPEG, PNG, WEBP = b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\nIEND\xaeB`\x82", b"RIFFxxxxWEBP"
PROGRAM = "import sys; from seedbed_mock.cli import main; sys.exit(main())"
CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|(\r\n?|\n)|([^\x1b\r\n]+)")


class Screen:
    """A terminal with the controls that the display uses: it keeps all lines, as a scrollback does.

    Args:
        width: Number of columns.
    """

    def __init__(self, width: int) -> None:
        self.width, self.lines, self.row, self.column = width, [""], 0, 0
        self.widest = 0
        self.shown = set[str]()

    def feed(self, output: str) -> None:
        for parameter, command, newline, text in CONTROL.findall(output):
            if command == "A":
                self.row -= int(parameter or 1)
            elif command == "K":
                self.lines[self.row] = "" if parameter == "2" else self.lines[self.row][: self.column]
            elif command:
                assert command in {"m", "h", "l"}, f"unexpected control {command}"
            elif newline:
                self.column = 0
                self.row += "\n" in newline
                self.lines += [""] * (self.row + 1 - len(self.lines))
            else:
                assert text.isprintable()
                self.lines[self.row] = self.lines[self.row][: self.column] + text
                self.column = len(self.lines[self.row])
                self.shown.add(self.lines[self.row])
        assert self.row >= 0

    @property
    def left(self) -> list[str]:
        return [line for line in self.lines if line.strip()]


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running(task_seconds=0, rate_limit="off", credits=10**6) as server:
        yield server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_in_terminal(
    server: MockServer, width: int, *arguments: str, stdout: int | None = None, **variables: str
) -> str:
    """Run ``seedbed generate`` in a terminal and return what it wrote there."""
    terminal, process_side = os.openpty()
    termios.tcsetwinsize(process_side, (24, width))
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
    environment = {**kept, "TERM": "xterm-256color", "SEEDBED_BASE_URL": server.url, **variables}
    command = [sys.executable, "-c", PROGRAM, "generate", *arguments]
    output = b""
    with subprocess.Popen(
        command, env=environment, stdin=process_side, stdout=stdout or process_side, stderr=process_side
    ) as process:
        os.close(process_side)
        while True:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # Linux reports the end of a terminal as an error
                break
            if not part:
                break
            output += part
    os.close(terminal)
    assert process.returncode == 0, output
    return output.decode()


PROMPTS = [
    "A hill at dawn, with a description that is too long for a narrow terminal",
    "丘の上の朝焼けと霧と羊たちのとても長い説明文です丘の上の朝焼けと霧と羊たちのとても長い説明文です",
    "red \x1b[31m and \x07 bell",
    "short",
]


@pytest.mark.parametrize("width", [40, *(pytest.param(width, marks=pytest.mark.slow) for width in (80, 200))])
def test_every_saved_line_survives_and_the_display_fits(server: MockServer, width: int) -> None:
    screen = Screen(width)
    output = run_in_terminal(server, width, *PROMPTS, "-o", "{index}.jpg")
    screen.feed(output)
    assert sorted(line.partition(" (")[0] for line in screen.left) == [f"Saved {number}.jpg" for number in (1, 2, 3, 4)]
    # A terminal echoes ^C in the last row, and must not wrap it.
    assert max(cell_len(line) for line in screen.shown) + len("^C") < width
    rows = [line for line in screen.shown if re.search(r" [1-4]/4 ", line)]
    assert {row.split()[1] for row in rows} == {"1/4", "2/4", "3/4", "4/4"}
    assert any("0 of 4 saved, 4 running" in line for line in screen.shown)
    assert any("A hill at" in row for row in rows)
    assert any("丘の上" in row for row in rows)
    assert any(r"red \x1b[31m" in row for row in rows)
    assert any("task_seedream_" in row for row in rows) == (width == 200)


@pytest.mark.slow
def test_only_what_fits_on_the_screen_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    with ProgressDisplay(["A hill"] * 100) as display:
        for number in range(1, 101):
            display.show(number, "success", f"t{number}")
    assert "0 of 100 saved, 100 running" in shown.getvalue()
    assert " 22/100 " in shown.getvalue()
    assert " 23/100 " not in shown.getvalue()


def test_one_prompt_needs_no_total_and_json_is_not_wrapped(server: MockServer) -> None:
    screen = Screen(40)
    output = run_in_terminal(server, 40, "A hill", "--json", NO_COLOR="1")
    screen.feed(output)
    (line,) = screen.left
    assert json.loads(line)["status"] == "saved"
    assert not any("of 1" in line or "1/1" in line for line in screen.shown)
    colours = [code for codes in re.findall(r"\x1b\[([\d;]*)m", output) for code in codes.split(";")]
    assert not [code for code in colours if re.fullmatch(r"[349]\d|10\d|38|48", code)]


def test_a_dumb_terminal_gets_lines_with_the_true_names_of_the_files(server: MockServer, tmp_path: Path) -> None:
    output = run_in_terminal(server, 80, "one", "two", "-o", "{index}.png", TERM="dumb")
    assert "\x1b" not in output
    lines = output.splitlines()
    assert sorted(line.partition(" (")[0] for line in lines if "Saved" in line) == ["Saved 1.jpg", "Saved 2.jpg"]
    assert sorted(line.split()[0] for line in lines if line.endswith("submitted")) == ["1/2", "2/2"]
    assert {path.name for path in tmp_path.iterdir()} == {"1.jpg", "2.jpg"}


def test_a_display_does_not_disturb_the_program_at_the_end_of_a_pipe(server: MockServer) -> None:
    """``seedbed generate --json | jq`` in a terminal: both programs write to it."""
    reader, writer = os.pipe()
    output = run_in_terminal(server, 80, "one", "--json", stdout=writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert json.loads(pipe.read())["status"] == "saved"
    assert "\x1b" not in output
    assert "success" in output


@pytest.mark.slow
def test_a_file_gets_nothing_of_the_display(server: MockServer, tmp_path: Path) -> None:
    with (tmp_path / "out.txt").open("wb") as file:
        output = run_in_terminal(server, 80, "one", "two", "--json", stdout=file.fileno())
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert sorted(json.loads(line)["prompt"] for line in lines) == ["one", "two"]
    screen = Screen(80)
    screen.feed(output)
    assert screen.left == []


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.png", JPEG, "a.jpg"),
        ("a.webp", JPEG, "a.jpg"),
        ("a.tiff", JPEG, "a.jpg"),
        ("a.jpg", PNG, "a.png"),
        ("a.JPG", JPEG, "a.JPG"),
        ("a.jpeg", JPEG, "a.jpeg"),
        ("a.jpeg", WEBP, "a.webp"),
        ("a", JPEG, "a"),
        ("a.b", JPEG, "a.b"),
        ("a.bin", PNG, "a.bin"),
        ("a.png", b"something else", "a.png"),
    ],
)
def test_the_suffix_names_the_format_of_the_image(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert with_true_suffix(tmp_path / name, "t1") == tmp_path / expected
    assert [path.name for path in tmp_path.iterdir()] == [expected]


def test_a_file_of_the_other_name_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"mine")
    (tmp_path / "a.png").write_bytes(JPEG)
    assert with_true_suffix(tmp_path / "a.png", "../t1") == tmp_path / "a-___t1.jpg"
    assert (tmp_path / "a.jpg").read_bytes() == b"mine"
