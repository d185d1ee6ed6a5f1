"""Images of a folder as results: which files are used, which folders are refused, and images that break later."""

import contextlib
import io
import json
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import ExifTags, Image
from seedbed_mock import SettingsError, running
from seedbed_mock.cli import main
from seedbed_mock.results.gallery import Gallery
from seedbed_mock.results.picture import Picture
from seedbed_mock.results.rendering import render
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.profile import default_profile

CONTRACT, SHARED, PROFILE = default_contract(), job_api(), default_profile()
OPTIONS = {"aspect_ratio": "3:2", "quality": "basic"}
RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)

FetchResult = Callable[[str], httpx2.Response]
Color = tuple[int, ...]


@contextlib.contextmanager
def serving(folder: Path | str) -> Iterator[FetchResult]:
    """Run a mock server with this folder, and yield a function that fetches the result of a prompt."""
    with running(task_seconds=0, rate_limit="off", result_dir=folder) as server, httpx2.Client(trust_env=False) as http:
        http.base_url = server.url
        http.headers["Authorization"] = f"Bearer {server.key}"

        def fetch_result(prompt: str) -> httpx2.Response:
            body = {"model": CONTRACT.model, "input": {"prompt": prompt, **OPTIONS}}
            task_id = http.post(CONTRACT.operation.path, json=body).json()["data"]["taskId"]
            record: dict[str, Any] = http.get(SHARED.record_info.path, params={"taskId": task_id}).json()["data"]
            return http.get(json.loads(record["resultJson"])["resultUrls"][0])

        yield fetch_result


def opened(response: httpx2.Response) -> Image.Image:
    assert response.status_code == 200
    return Image.open(io.BytesIO(response.content))


def save_plain(path: Path, color: Color = RED, **options: Any) -> None:
    Image.new("RGB", (60, 40), color).save(path, **options)


def result_of(folder: Path, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Return a result of this size from a folder with one image."""
    return Image.open(io.BytesIO(render(Picture("", "", size, 0), Gallery(folder)).content))


def is_near(found: Any, wanted: Color) -> bool:
    return all(abs(one - other) < 12 for one, other in zip(found, wanted, strict=True))


def test_a_result_is_an_image_of_the_folder_with_the_requested_size_and_metadata(tmp_path: Path) -> None:
    save_plain(tmp_path / "one.png")
    with serving(tmp_path) as fetch_result, opened(fetch_result("a hill")) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", PROFILE.size(OPTIONS))
        assert is_near(image.getpixel((5, 5)), RED)
        request = json.loads(image.getexif()[ExifTags.Base.ImageDescription])
        assert request == {"model": CONTRACT.model, "input": {"prompt": "a hill", **OPTIONS}}


def test_the_same_request_gets_the_same_image_on_any_server(tmp_path: Path) -> None:
    for number in range(8):
        save_plain(tmp_path / f"{number}.png", (30 * number, 0, 0))
    prompts = [f"hill {number}" for number in range(6)]
    rounds = []
    for _ in range(2):
        with serving(tmp_path) as fetch_result:
            rounds.append([fetch_result(prompt).content for prompt in prompts])
    assert rounds[0] == rounds[1]
    colors = {Image.open(io.BytesIO(content)).getpixel((5, 5)) for content in rounds[0]}
    assert len(colors) > 1


def test_other_files_and_hidden_files_are_ignored_and_links_are_followed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere.bin"
    (folder / "deeper").mkdir(parents=True)
    save_plain(elsewhere, GREEN, format="PNG")
    (folder / "link").symlink_to(elsewhere)
    (folder / "lost.png").symlink_to(tmp_path / "nothing")
    for path in (folder / ".hidden.png", folder / "deeper" / "deep.png"):
        save_plain(path, BLUE)
    (folder / "notes.txt").write_text("no image")
    (folder / "empty.jpg").touch()
    (folder / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    os.mkfifo(folder / "pipe.png")
    with serving(folder) as fetch_result:
        for number in range(4):
            assert is_near(opened(fetch_result(f"hill {number}")).getpixel((5, 5)), GREEN)


@pytest.mark.parametrize("size", [(64, 64), (200, 20), (20, 200)])
def test_an_image_is_cropped_around_its_centre_and_not_distorted(tmp_path: Path, size: tuple[int, int]) -> None:
    image = Image.new("RGB", (90, 90), RED)
    image.paste(GREEN, (30, 30, 60, 60))
    image.save(tmp_path / "middle.png")
    found = result_of(tmp_path, size)
    assert found.size == size
    assert is_near(found.getpixel((size[0] // 2, size[1] // 2)), GREEN)


def test_a_photo_is_rotated_by_its_exif_orientation(tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (80, 40), RED), Image.Exif()
    image.paste(BLUE, (0, 0, 40, 40))
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = result_of(tmp_path, (40, 80))
    assert is_near(found.getpixel((20, 10)), BLUE)
    assert is_near(found.getpixel((20, 70)), RED)
    assert ExifTags.Base.Orientation not in found.getexif()


BACKGROUND = (250, 250, 245)


@pytest.mark.parametrize(
    ("name", "mode", "color", "wanted"),
    [
        ("rgb.webp", "RGB", GREEN, GREEN),
        ("rgb.bmp", "RGB", GREEN, GREEN),
        ("rgb.avif", "RGB", GREEN, GREEN),
        ("rgb.jp2", "RGB", GREEN, GREEN),
        ("rgb.ppm", "RGB", GREEN, GREEN),
        ("clear.png", "RGBA", (*RED, 0), BACKGROUND),
        ("half.png", "RGBA", (0, 0, 0, 128), (125, 125, 122)),
        ("clear.webp", "RGBA", (*RED, 0), BACKGROUND),
        ("grey.png", "L", 90, (90, 90, 90)),
        ("clear_grey.png", "LA", (90, 0), BACKGROUND),
        ("deep.png", "I;16", 90 * 257, (90, 90, 90)),
        ("deep.tiff", "I;16B", 90 * 257, (90, 90, 90)),
        ("deeper.tiff", "I", 70_000, (0, 0, 0)),
        ("real.tiff", "F", 0.5, (0, 0, 0)),
        ("print.jpg", "CMYK", (0, 255, 255, 0), (254, 0, 0)),
        ("bits.png", "1", 1, (255, 255, 255)),
        ("one.gif", "P", 0, (0, 0, 0)),
    ],
)
def test_any_kind_of_image_can_be_used(tmp_path: Path, name: str, mode: str, color: Any, wanted: Color) -> None:
    Image.new(mode, (40, 30), color).save(tmp_path / name)
    assert is_near(result_of(tmp_path).getpixel((32, 32)), wanted)


def test_levels_of_floats_are_scaled_to_the_full_range(tmp_path: Path) -> None:
    Image.linear_gradient("L").convert("F").point(lambda level: level * 0.001 + 5).save(tmp_path / "real.tiff")
    levels = result_of(tmp_path).convert("L").getextrema()
    assert is_near(levels, (0, 255))


def test_a_transparent_palette_colour_shows_the_background(tmp_path: Path) -> None:
    image = Image.new("P", (40, 30), 1)
    image.putpalette([*RED, *GREEN])
    image.save(tmp_path / "clear.png", transparency=1)
    assert is_near(result_of(tmp_path).getpixel((32, 32)), BACKGROUND)


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "moving.png"])
def test_the_first_frame_of_an_animation_is_used(tmp_path: Path, name: str) -> None:
    first, second = (Image.new("RGB", (40, 30), color) for color in (GREEN, BLUE))
    first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True)
    assert is_near(result_of(tmp_path).getpixel((32, 32)), GREEN)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_an_image_of_any_shape_is_fitted(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, RED).save(tmp_path / "odd.png")
    assert result_of(tmp_path, (48, 64)).size == (48, 64)


def png_of(width: int, height: int) -> bytes:
    """Return a PNG whose header gives this size but which has fewer pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, body))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: folder.rmdir(), "No such file or directory"),
        (lambda folder: (folder.rmdir(), folder.write_text("x")), "Not a directory"),
        (lambda _: None, "contains no image"),
        (lambda folder: (folder / "notes.txt").write_text("x"), "contains no image"),
        (lambda folder: save_plain(folder / ".hidden.png"), "contains no image"),
        (lambda folder: (folder / "wide.png").write_bytes(png_of(10_000, 10_000)), "wide.png has more than"),
        (lambda folder: (folder / "huge.png").write_bytes(png_of(100_000, 100_000)), "huge.png has more than"),
    ],
)
def test_an_unusable_folder_is_refused_at_the_start_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prepare: Callable[[Path], object], words: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    prepare(folder)
    with pytest.raises(SettingsError, match=words), running(result_dir=folder):
        pass
    assert main(["serve", "--port", "0", "--result-dir", str(folder)]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 2)
    assert words in errors


def test_a_folder_with_an_invalid_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="cannot be read"), running(result_dir="a\0b"):
        pass


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no image"),
        lambda path: path.write_bytes(png_of(100, 100)),
        lambda path: path.write_bytes(png_of(10_000, 10_000)),
        lambda path: path.write_bytes(png_of(100_000, 100_000)),
        lambda path: (path.unlink(), path.mkdir()),
        put_pipe,
    ],
)
def test_an_image_that_breaks_later_gives_one_sentence_and_the_server_continues(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: Callable[[Path], object]
) -> None:
    path = tmp_path / "hill\n.png"
    Image.effect_noise((60, 60), 90).save(path)
    with serving(tmp_path) as fetch_result:
        assert fetch_result("before").status_code == 200
        damage(path)
        broken = fetch_result("after")
        assert broken.status_code == broken.json()["code"] == 500
        assert broken.json()["msg"].startswith("The image hill\\n.png can no longer be read")
        assert fetch_result("before").status_code == 200
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        save_plain(path)
        assert fetch_result("after").status_code == 200
    assert capfd.readouterr().err == ""


def test_the_warning_filters_are_not_changed(tmp_path: Path) -> None:
    save_plain(tmp_path / "one.png")
    before = list(warnings.filters)
    Gallery(tmp_path)
    assert warnings.filters == before
