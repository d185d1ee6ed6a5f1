"""Result images as files: their metadata, the cache, conditional requests and ranges."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from seedbed_mock import running
from seedbed_mock.results import rendering
from seedbed_mock.results.drawing import encode
from seedbed_mock.results.picture import Picture, picture_of
from seedbed_mock.results.rendering import Rendered, Renderer, render
from seedbed_schemas import __version__, default_contract, job_api
from seedbed_schemas.profile import default_profile

CONTRACT, SHARED, PROFILE = default_contract(), job_api(), default_profile()
SMALL = {"size": "64x48"}

HOSTILE = [
    "",
    "a hill",
    "\x00\x01\x1b[31m\x7f",
    "\u202egnp.exe\u2066 שלום",
    "😀👩\u200d👩\u200d👧",
    "]]> <script>alert(1)</script> &amp; <!-- --> <?xpacket end='w'?> \"'",
    "\ufffe\uffff\ufeff\u2028",
    "line\r\nline\ttab",
    "\\u0000 \\",
]


def picture_for(prompt: str = "a hill", seed: int = 0, **options: str) -> Picture:
    values = {PROFILE.caption: prompt, "aspect_ratio": "1:1", "quality": "basic", **options}
    return picture_of(PROFILE, PROFILE.model, values, seed)


def embedded_request(content: bytes) -> str:
    """Return the request in the EXIF metadata of a file, after checking that they name Seedbed."""
    with Image.open(io.BytesIO(content)) as image:
        exif = image.getexif()
        assert b"Seedbed" in image.info["comment"]
    assert exif[ExifTags.Base.Software] == f"Seedbed {__version__}"
    assert b"Made by Seedbed" in exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    return str(exif.get(ExifTags.Base.ImageDescription))


@pytest.mark.parametrize("prompt", HOSTILE, ids=ascii)
def test_the_metadata_contain_the_request_and_the_software(prompt: str) -> None:
    values = {"prompt": prompt, **SMALL}
    picture = Picture(prompt, "", (64, 48), 0, picture_of(PROFILE, "m", values, 0).request)
    text = embedded_request(render(picture).content)
    assert json.loads(text) == {"model": "m", "input": values}


@given(prompt=st.text(max_size=40))
def test_the_metadata_can_contain_any_prompt(prompt: str) -> None:
    picture = picture_of(PROFILE, "m", {"prompt": prompt}, 0)
    text = embedded_request(encode(Image.new("RGB", (8, 8)), picture))
    assert json.loads(text)["input"]["prompt"] == prompt


@pytest.mark.parametrize("character", ["x", "汉", "<", "&", '"'])
def test_a_request_that_is_too_long_for_the_metadata_is_truncated(character: str) -> None:
    picture = picture_of(PROFILE, "m", {"prompt": character * 200_000}, 0)
    text = embedded_request(encode(Image.new("RGB", (8, 8)), picture))
    assert len(text) > 10_000
    assert text.endswith("... (truncated)")
    assert picture.request.startswith(text.removesuffix("... (truncated)"))


@pytest.mark.parametrize("values", [None, [], "text", 7, {"prompt": ["a"]}, {"aspect_ratio": {}}])
def test_an_input_of_any_shape_has_a_picture(values: object) -> None:
    picture = picture_of(PROFILE, "m", values, 0)
    assert json.loads(picture.request) == {"model": "m", "input": values}
    assert picture.request.isascii()


def test_the_same_request_gives_the_same_file_in_any_process() -> None:
    pictures = [
        picture_for(),
        picture_for("a lake"),
        picture_for(seed=1),
        picture_for(quality="high"),
        picture_for(aspect_ratio="4:3"),
        picture_for(unnamed="x"),
    ]
    assert len({render(picture).content for picture in pictures}) == len(pictures)
    code = "from seedbed_mock.results.picture import Picture\nfrom seedbed_mock.results.rendering import render\n"
    code += f"print(render({picture_for()!r}).etag)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == render(picture_for()).etag


def test_the_order_of_the_fields_does_not_change_the_image() -> None:
    values = {"prompt": "a hill", "quality": "basic"}
    assert picture_of(PROFILE, "m", values, 0) == picture_of(PROFILE, "m", dict(reversed(values.items())), 0)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """Replace rendering by files of ten bytes, and return the list of rendered pictures."""
    pictures: list[Picture] = []

    def record(picture: Picture, _: object) -> Rendered:
        pictures.append(picture)
        return Rendered(b"0123456789", '"tag"')

    monkeypatch.setattr(rendering, "render", record)
    return pictures


def test_simultaneous_requests_share_one_rendering(rendered: list[Picture]) -> None:
    async def render_all() -> None:
        renderer = Renderer()
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(renderer.render, picture_for())

    anyio.run(render_all)
    assert rendered == [picture_for()]


@pytest.mark.parametrize(
    ("cache_bytes", "prompts", "drawn"),
    [(20, "abab", "ab"), (20, "abacab", "abcb"), (19, "aba", "aba"), (9, "aa", "aa")],
)
def test_the_cache_is_limited_and_drops_the_least_recently_used_file(
    rendered: list[Picture], cache_bytes: int, prompts: str, drawn: str
) -> None:
    async def render_all() -> None:
        renderer = Renderer(cache_bytes=cache_bytes)
        for prompt in prompts:
            await renderer.render(picture_for(prompt))

    anyio.run(render_all)
    assert [picture.caption for picture in rendered] == list(drawn)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(task_seconds=0) as server, httpx2.Client(base_url=server.url, trust_env=False) as http:
        http.headers["Authorization"] = f"Bearer {server.key}"
        body = {"model": CONTRACT.model, "input": json.loads(picture_for().request)["input"]}
        task_id = http.post(CONTRACT.operation.path, json=body).json()["data"]["taskId"]
        record: dict[str, Any] = http.get(SHARED.record_info.path, params={"taskId": task_id}).json()["data"]
        yield json.loads(record["resultJson"])["resultUrls"][0]


def fetch(url: str, method: str = "GET", **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.request(method, url, headers=named, trust_env=False)


def test_a_served_result_contains_the_request(url: str) -> None:
    text = embedded_request(fetch(url).content)
    assert json.loads(text) == json.loads(picture_for().request)


def test_head_has_the_headers_of_get_and_no_body(url: str) -> None:
    get, head = fetch(url), fetch(url, "HEAD")
    assert {**get.headers, "date": ""} == {**head.headers, "date": ""}
    assert int(head.headers["content-length"]) == len(get.content)
    assert head.headers["content-type"] == "image/jpeg"
    assert head.headers["x-seedbed"] == __version__
    assert head.headers["cache-control"] == "no-cache"
    assert (head.status_code, head.content) == (200, b"")
    assert fetch(url, "HEAD", Range="bytes=0-3").headers["content-length"] == head.headers["content-length"]


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=2-9", 2, 9),
        ("BYTES=100-", 100, -1),
        ("bytes=-10", -10, -1),
        ("bytes=-99999999999", 0, -1),
        ("bytes=5-999999999999", 5, -1),
    ],
)
def test_a_range_of_a_result_is_served(url: str, wanted: str, first: int, last: int) -> None:
    whole, part = fetch(url).content, fetch(url, Range=wanted)
    start, end = first % len(whole), last % len(whole)
    assert part.status_code == 206
    assert part.content == whole[start : end + 1]
    assert part.headers["content-range"] == f"bytes {start}-{end}/{len(whole)}"
    assert part.headers["x-seedbed"] == __version__


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=-0", "bytes=99999999-999999999"])
def test_a_range_outside_of_the_content_is_refused_with_the_size(url: str, wanted: str) -> None:
    size, response = len(fetch(url).content), fetch(url, Range=wanted)
    assert (response.status_code, response.content) == (416, b"")
    assert response.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "wanted",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-2", "lines=0-9", "bytes=0-1,5-6", "bytes=0--1"),
        *("bytes=" + ",".join(["0-"] * 1000), "bytes=" + "9" * 5000 + "-", "bytes=\xb2-\xb3"),
    ],
    ids=lambda wanted: wanted[:20],
)
def test_any_other_range_gets_the_whole_content(url: str, wanted: str) -> None:
    response = httpx2.get(url, headers=[(b"Range", wanted.encode("latin-1"))], trust_env=False)
    assert (response.status_code, response.content) == (200, fetch(url).content)


def test_if_range_with_another_tag_gets_the_whole_content(url: str) -> None:
    tag = fetch(url).headers["etag"]
    assert fetch(url, Range="bytes=0-3", If_Range=tag).status_code == 206
    for other in ('"other"', f"W/{tag}", "Sun, 22 Nov 2026 00:00:00 GMT"):
        assert fetch(url, Range="bytes=0-3", If_Range=other).status_code == 200


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match_gets_304(url: str, method: str, form: str) -> None:
    tag = fetch(url).headers["etag"]
    response = fetch(url, method, If_None_Match=form.format(tag), Range="bytes=0-3")
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == tag
    assert response.headers["x-seedbed"] == __version__
    assert fetch(url, method, If_None_Match='"other"').status_code == 200


def test_another_method_and_another_name_are_refused(url: str) -> None:
    assert fetch(url.replace(".jpg", "x.jpg"), "HEAD").status_code == 404
    assert fetch(url, "DELETE").json()["code"] == 404


def test_many_fetches_at_the_same_time_are_the_same(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: fetch(url).content, range(16)))) == 1
