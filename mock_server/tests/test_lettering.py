"""Text in a box: it fits or is truncated, and shows every character."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from seedbed_mock.results import drawing
from seedbed_mock.results.drawing import draw_text

WIDTH, HEIGHT = 2000, 1500
BOX = (200, 150, 1800, 1350)
INK = (255, 255, 255)


def drawn(text: str, *, smallest: int = 20) -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT))
    draw_text(image, text, box=BOX, largest=200, smallest=smallest, fill=INK)
    return image


@pytest.mark.parametrize(
    "text",
    [
        "I",
        "a hill with sheep " * 20,
        "x" * 400,
        "W" * 5000,
        "one\ntwo\n\nthree",
        "\x00\t\u2028",
        "Line one\r\nLine two",
        "\x1c\x1d\x1e\x85\u2029\r",
        "汉字" * 200,
        "😀" * 300,
        "e\u0301" * 100,
        "שלום " * 50,
        "ש" * 3000,
        "\n" * 3000,
    ],
    ids=lambda text: repr(text[:8]),
)
def test_text_stays_in_its_box(text: str) -> None:
    box = drawn(text).getbbox()
    assert box is not None
    slack = 60  # glyphs may be larger than the font says
    assert box[0] >= BOX[0] - slack
    assert box[1] >= BOX[1] - slack
    assert box[2] <= BOX[2] + slack
    assert box[3] <= BOX[3] + slack


@given(text=st.text(max_size=30))
@example("a" + "\u0301" * 3000)
def test_any_text_can_be_drawn(text: str) -> None:
    drawn(text)


def test_every_kind_of_line_break_is_respected() -> None:
    assert drawn("one\r\ntwo\rthree").tobytes() == drawn("one\ntwo\nthree").tobytes()


def test_no_text_draws_nothing() -> None:
    assert drawn("").getbbox() is None


def test_text_that_does_not_fit_ends_in_an_ellipsis() -> None:
    long = "word " * 2000
    assert drawn(long).tobytes() == drawn(long + "and more").tobytes()


def test_short_text_is_drawn_large() -> None:
    short, long = drawn("hill").getbbox(), drawn("hill " * 200).getbbox()
    assert short is not None
    assert long is not None
    assert short[3] - short[1] > 100


def test_a_character_without_a_glyph_is_shown_as_its_code_point() -> None:
    assert drawn("\U000fffff").tobytes() == drawn("[U+FFFFF]").tobytes()


def test_text_is_drawn_without_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_SYSTEM_FONTS", ("no-such-font.ttf",))
    drawing._font_names.cache_clear()
    try:
        assert drawn("汉").tobytes() == drawn("[U+6C49]").tobytes()
    finally:
        drawing._font_names.cache_clear()
