"""HAR files of common recorders are read correctly, and other files are refused with a message."""

from __future__ import annotations

import base64
import contextlib
import copy
import gzip
import importlib
import json
import os
import sys
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seedbed_contract.traffic import HarError, RecordedExchange, load_har, read_har
from seedbed_contract.traffic.bodies import ZSTD_MODULE, BodyReader

if TYPE_CHECKING:
    from pathlib import Path

brotli, zstd = importlib.import_module("brotli"), importlib.import_module(ZSTD_MODULE)

URL = "https://api.example/api/v1/jobs/recordInfo?taskId=a%20b&taskId=&x=1"
ENTRY: dict[str, Any] = {
    "startedDateTime": "2026-11-22T22:25:18.250Z",
    "time": 120.5,
    "request": {
        "method": "GET",
        "url": URL,
        "httpVersion": "h2",
        "headers": [{"name": ":authority", "value": "api.example"}, {"name": "authorization", "value": "Bearer k"}],
        "queryString": [],
        "cookies": [],
        "headersSize": -1,
        "bodySize": 0,
    },
    "response": {
        "status": 200,
        "statusText": "",
        "httpVersion": "h2",
        "headers": [{"name": "Content-Type", "value": "application/json"}],
        "cookies": [],
        "content": {"size": 12, "mimeType": "application/json", "text": '{"code":200}'},
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": -1,
    },
    "cache": {},
    "timings": {"send": 0, "wait": 120.5, "receive": 0},
}


def entry(changes: dict[str, Any] | None = None, **own: Any) -> dict[str, Any]:
    """Return an entry as Chrome writes it, with changes at dotted paths; ``None`` removes a path."""
    changed = copy.deepcopy(ENTRY) | own
    for place, value in (changes or {}).items():
        *outer, name = place.split(".")
        part = changed
        for step in outer:
            part = part[step]
        if value is None:
            part.pop(name, None)
        else:
            part[name] = value
    return changed


def har(*entries: Any, version: Any = "1.2") -> bytes:
    log = {"version": version, "creator": {"name": "a recorder", "version": "1"}, "entries": [*entries]}
    return json.dumps({"log": log}).encode()


def read(changes: dict[str, Any] | None = None, **own: Any) -> RecordedExchange:
    (recorded,) = read_har(har(entry(changes, **own)))
    return recorded


def test_every_part_of_an_exchange_is_read() -> None:
    assert read() == RecordedExchange(
        index=0,
        method="GET",
        url=URL,
        path="/api/v1/jobs/recordInfo",
        query=(("taskId", "a b"), ("taskId", ""), ("x", "1")),
        request_headers=(("authorization", "Bearer k"),),
        request_body=None,
        status=200,
        response_headers=(("content-type", "application/json"),),
        response_body=b'{"code":200}',
        started=1795386318.25,
        seconds=0.1205,
    )


def test_the_representation_of_an_exchange_has_no_key() -> None:
    assert "Bearer" not in repr(read())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty. Export the traffic again as HAR 1.2, with content."),
        (b" \n", "The file is empty."),
        (b"<html>", "it is not JSON in UTF-8"),
        (b"\xff\xfe{\x00}\x00", "it is not JSON in UTF-8"),
        (b"[" * 100_000, "it is not JSON in UTF-8"),
        (b'{"log": ' + b"9" * 5000 + b"}", "it is not JSON in UTF-8"),
        (b"PK\x03\x04rest", "The file is a zip archive. Decompress it first."),
        (gzip.compress(har(), mtime=0), "The file is compressed with gzip. Decompress it first."),
        (zlib.compress(har(), 9), "The file is compressed. Decompress it first."),
        (b"[]", "it has no log"),
        (b'{"log": []}', "it has no log"),
        (b'{"log": {"version": "1.2"}}', "its log has no list of entries"),
        (b'{"log": {"version": "1.2", "entries": {}}}', "its log has no list of entries"),
        (har(version="2.0"), "The file is HAR 2.0, and only HAR 1 is known. Export the traffic again"),
        (har(version=True), "The file is HAR true"),
        (har(version={"a": "\x1b"}), r'The file is HAR {"a": "\u001b"}'),
        (har(entry(), 7), "entry 2 of the log has no request"),
        (har(entry({"request": []})), "entry 1 of the log has no request"),
        (har(entry({"response": []})), "entry 1 of the log has no response"),
        (har(entry({"request.url": 7})), "the request of entry 1 of the log has no url"),
        (har(entry({"request.method": ""})), "the request of entry 1 of the log has no method"),
        (har(entry({"response.status": "200"})), "the response of entry 1 of the log has no status"),
    ],
)
def test_a_file_that_is_not_har_is_refused_with_a_message(content: bytes, message: str) -> None:
    with pytest.raises(HarError) as caught:
        read_har(content)
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")
    assert str(caught.value).isprintable()


def test_a_byte_order_mark_is_accepted() -> None:
    assert len(read_har(b"\xef\xbb\xbf" + har(entry()))) == 1


@pytest.mark.parametrize("version", ["1.1", "1.2", "1.3", 1.2, 1, " 1.2 ", None, ""])
def test_every_version_of_har_is_read(version: Any) -> None:
    assert len(read_har(har(entry(), version=version))) == 1
    assert read_har(b'{"log": {"entries": []}}') == []


def test_a_har_file_without_entries_is_empty() -> None:
    assert read_har(har()) == []


@pytest.mark.parametrize(
    ("content", "body"),
    [
        ({"text": '{"msg":"山"}'}, '{"msg":"山"}'.encode()),
        ({"text": base64.b64encode(b"\xff\x00").decode(), "encoding": "base64"}, b"\xff\x00"),
        ({"text": "ab\ncd\n", "encoding": "base64"}, base64.b64decode("abcd")),
        ({"text": "a\udcff"}, b"a\xff"),  # mitmproxy, for bytes that are not UTF-8
        ({"text": '{"code":2', "size": 12}, None),  # cut by the recorder
        ({"text": '{"code":2', "size": 9}, b'{"code":2'),  # cut by the service
        ({"text": '{"code":2}', "size": 40}, b'{"code":2}'),  # mitmproxy: the compressed size
        ({"text": "", "size": 0}, b""),
        ({"text": "", "size": 40}, None),  # Firefox, if it did not keep the body
        ({"text": "", "size": -1}, None),
        ({"size": 40, "comment": "Response bodies are not included."}, None),
        ({"size": 0}, None),  # Chrome, if it has discarded the body
        ({"_file": "abc.json", "size": 40}, None),  # Playwright, with bodies in separate files
        ({"text": None}, None),
        ({"text": 7}, None),
        ({"text": "a\ud800"}, None),
        ({"text": "!", "encoding": "base64"}, None),
        ({"text": "abcd", "encoding": "rot13"}, None),
    ],
)
def test_a_response_body_is_read_or_unknown(content: dict[str, Any], body: bytes | None) -> None:
    assert read({"response.content": content}).response_body == body
    assert read({"response.content": None}).response_body is None


@pytest.mark.parametrize(
    ("encoding", "raw", "body"),
    [
        ("gzip", gzip.compress(b'{"code":200}', mtime=0), b'{"code":200}'),
        ("deflate", zlib.compress(b'{"code":200}'), b'{"code":200}'),
        ("gzip", gzip.compress(b'{"code":200}', mtime=0)[:-9], None),
        ("br", b"\x0b\x05\x80\xff", None),
        ("gzip", b"\x1f\x8b\xff", None),
        ("gzip", b'{"code":200}', b'{"code":200}'),
        ("identity", b"\x1f\x8b\xff", b"\x1f\x8b\xff"),
    ],
)
def test_a_compressed_body_is_decompressed_or_unknown(encoding: str, raw: bytes, body: bytes | None) -> None:
    headers = [{"name": "Content-Encoding", "value": encoding}]
    content = {"text": base64.b64encode(raw).decode(), "encoding": "base64"}
    assert read({"response.content": content, "response.headers": headers}).response_body == body


ANSWER = b'{"code":200,"msg":"\xe5\xb1\xb1"}'
PACKED = gzip.compress(ANSWER, mtime=0)
CHUNKS = [PACKED[:7], PACKED[7:20], PACKED[20:]]
TEXT = ANSWER.decode()
BASE64 = base64.b64encode(ANSWER).decode()
BROTLI, ZSTD = brotli.compress(ANSWER), zstd.compress(ANSWER)
GZIP_HEADER, BROTLI_HEADER = {"Content-Encoding": "gzip"}, {"Content-Encoding": "br"}

FORMS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "Chrome: text": ({"text": TEXT}, GZIP_HEADER),
    "Chrome: base64": ({"text": BASE64, "encoding": "base64"}, {}),
    "Firefox: text called base64": ({"text": TEXT, "encoding": "base64"}, {}),
    "k6: text called base64, compressed on the wire": ({"text": TEXT, "encoding": "base64"}, GZIP_HEADER),
    "text called utf-8": ({"text": TEXT, "encoding": "utf-8"}, {}),
    "text called UTF8": ({"text": TEXT, "encoding": "UTF8"}, {}),
    "Base64": ({"text": BASE64, "encoding": "Base64"}, {}),
    "BASE64 with spaces": ({"text": f" {BASE64[:8]}\r\n{BASE64[8:]} ", "encoding": " BASE64 "}, {}),
    "base64 without padding": ({"text": BASE64.rstrip("="), "encoding": "base64"}, {}),
    "base64 for URLs": ({"text": base64.urlsafe_b64encode(ANSWER).decode(), "encoding": "base64"}, {}),
    "base64 of gzip": ({"text": base64.b64encode(PACKED).decode(), "encoding": "base64"}, GZIP_HEADER),
    "base64 of brotli": ({"text": base64.b64encode(BROTLI).decode(), "encoding": "base64"}, BROTLI_HEADER),
    "a file of brotli": ({"_file": "5d1f.br"}, BROTLI_HEADER),
    "Polly.JS 6: a list of base64 chunks of brotli": (
        {
            "text": json.dumps([base64.b64encode(part).decode() for part in (BROTLI[:5], BROTLI[5:])]),
            "encoding": "base64",
        },
        BROTLI_HEADER,
    ),
    "text, compressed with brotli on the wire": ({"text": TEXT}, BROTLI_HEADER),
    "base64 of zstd": ({"text": base64.b64encode(ZSTD).decode(), "encoding": "base64"}, {"Content-Encoding": "zstd"}),
    "base64 of zstd without the header": ({"text": base64.b64encode(ZSTD).decode(), "encoding": "base64"}, {}),
    "hex digits of zstd": ({"text": ZSTD.hex(), "_isBinary": True}, {"Content-Encoding": "ZSTD"}),
    "two encodings": (
        {"text": base64.b64encode(brotli.compress(PACKED)).decode(), "encoding": "base64"},
        {"Content-Encoding": "gzip, br"},
    ),
    "base64 of gzip without the header": ({"text": base64.b64encode(PACKED).decode(), "encoding": "base64"}, {}),
    "base64 of deflate without a header of its own": (
        {"text": base64.b64encode(zlib.compress(ANSWER, wbits=-15)).decode(), "encoding": "base64"},
        {"Content-Encoding": "deflate"},
    ),
    "Polly.JS 6: a list of base64 chunks": (
        {"text": json.dumps([base64.b64encode(chunk).decode() for chunk in CHUNKS]), "encoding": "base64"},
        GZIP_HEADER,
    ),
    "Polly.JS 4: a list of hex chunks, marked": (
        {"text": json.dumps([chunk.hex() for chunk in CHUNKS]), "_isBinary": True},
        GZIP_HEADER,
    ),
    "Polly.JS 1: a list of hex chunks": ({"text": json.dumps([chunk.hex() for chunk in CHUNKS])}, GZIP_HEADER),
    "Polly.JS 4: hex digits": ({"text": ANSWER.hex(), "_isBinary": True}, {}),
    "Playwright: a file": ({"_file": "5d1f.json"}, {}),
    "Playwright: a file in a folder": ({"_file": "resources/5d1f.json"}, GZIP_HEADER),
    "Playwright trace: a file by its hash": ({"_sha1": "5d1f.json"}, {}),
}
UNREAD = "the response body is there, but in a form that is not read here"


@pytest.mark.parametrize("form", FORMS)
def test_a_body_is_read_in_the_form_of_every_recorder(form: str) -> None:
    content, headers = FORMS[form]
    changes = {
        "response.content": {"size": len(PACKED), "mimeType": "application/json", **content},
        "response.headers": [{"name": name, "value": value} for name, value in headers.items()],
    }
    files = {"5d1f.json": ANSWER, "resources/5d1f.json": ANSWER, "5d1f.br": BROTLI}
    (recorded,) = read_har(har(entry(changes)), files.get)
    assert (recorded.response_body, recorded.response_problem) == (ANSWER, "")


@pytest.mark.parametrize(
    ("content", "headers", "problem"),
    [
        (
            {"text": base64.b64encode(b"\x0b\x05\x80\xff").decode(), "encoding": "base64"},
            {"Content-Encoding": "br"},
            UNREAD,
        ),
        ({"text": base64.b64encode(PACKED[:-9]).decode(), "encoding": "base64"}, GZIP_HEADER, UNREAD),
        ({"text": base64.b64encode(BROTLI[:-2]).decode(), "encoding": "base64"}, BROTLI_HEADER, UNREAD),
        ({"text": base64.b64encode(ZSTD[:-2]).decode(), "encoding": "base64"}, {"Content-Encoding": "zstd"}, UNREAD),
        ({"text": base64.b64encode(b"\xff" * 9).decode(), "encoding": "base64"}, {"Content-Encoding": "zstd"}, UNREAD),
        ({"text": base64.b64encode(BROTLI).decode(), "encoding": "base64"}, {"Content-Encoding": "dcb"}, UNREAD),
        ({"text": "zz", "_isBinary": True}, {}, UNREAD),
        ({"text": "abcd", "encoding": "rot13"}, {}, UNREAD),
        ({"text": "!", "encoding": "base64"}, {}, UNREAD),
        ({"text": "a\ud800"}, {}, UNREAD),
        ({"text": '{"code":2', "size": 40}, {}, "the recorder kept only a part of the response body"),
        ({"text": "", "size": 40}, {}, "the recorder did not keep the response body"),
        ({"_file": "gone.json"}, {}, "the recorder did not keep the response body"),
        ({"size": 40}, {}, "the recorder did not keep the response body"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_from_one_that_was_not_kept(
    content: dict[str, Any], headers: dict[str, str], problem: str
) -> None:
    listed = [{"name": name, "value": value} for name, value in headers.items()]
    recorded = read({"response.content": content, "response.headers": listed})
    assert (recorded.response_body, recorded.response_problem) == (None, problem)


@pytest.mark.parametrize(("encoding", "body", "module"), [("br", BROTLI, "brotli"), ("zstd", ZSTD, ZSTD_MODULE)])
def test_a_body_of_an_optional_encoding_names_what_to_install(
    encoding: str, body: bytes, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    content = {"text": base64.b64encode(body).decode(), "encoding": "base64"}
    headers = [{"name": "Content-Encoding", "value": encoding}]
    recorded = read({"response.content": content, "response.headers": headers})
    name = "brotli" if encoding == "br" else encoding
    problem = f"the response body is compressed with {name}; install seedbed[har] to read it"
    assert (recorded.response_body, recorded.response_problem) == (None, problem)


COMPRESSORS = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("encoding", COMPRESSORS)
def test_a_compressed_body_is_read_up_to_the_room_that_is_left(encoding: str) -> None:
    bomb = base64.b64encode(COMPRESSORS[encoding](b" " * (1 << 20))).decode()
    response = {"content": {"text": bomb, "encoding": "base64"}}
    for room, size in ((1 << 20, 1 << 20), ((1 << 20) - 1, 0), (0, 0)):
        bodies = BodyReader(lambda _: None)
        bodies._room = room
        body, problem = bodies.response_body(response, encoding)
        assert (len(body or b""), problem) == (size, "" if size else UNREAD)


def test_an_entry_without_a_response_is_read() -> None:
    for recorded in (read({"response": None}), *read_har(har({**entry(), "response": None}))):
        assert recorded.status == 0
        assert recorded.response_problem.startswith("no response was recorded")


def test_all_bodies_of_a_file_together_are_bounded() -> None:
    bomb = base64.b64encode(gzip.compress(b" " * (60 << 20), mtime=0)).decode()
    headers = [{"name": "content-encoding", "value": "gzip"}]
    one = entry({"response.content": {"text": json.dumps([bomb]), "encoding": "base64"}, "response.headers": headers})
    bodies = BodyReader(lambda _: None)
    bodies._room = 100 << 20
    read_one = [bodies.response_body(one["response"], "gzip") for _ in range(3)]
    assert [len(body or b"") >> 20 for body, _ in read_one] == [60, 0, 0]
    assert read_one[2][1] == UNREAD


# Files


ATTACHED = entry({"response.content": {"_file": "bodies/1.json", "mimeType": "application/json", "size": 12}})


def test_bodies_are_read_from_files_beside_the_har_file(tmp_path: Path) -> None:
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies" / "1.json").write_bytes(ANSWER)
    (tmp_path / "a.har").write_bytes(har(ATTACHED))
    (recorded,) = load_har(tmp_path / "a.har")
    assert recorded.response_body == ANSWER
    assert recorded.source == "a.har"


@pytest.mark.parametrize(
    "place", ["../secret.json", "/etc/hostname", "link.json", "bodies/../../secret.json", "fifo", "."]
)
def test_no_file_outside_of_the_folder_is_read(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "recording"
    folder.mkdir()
    (tmp_path / "secret.json").write_bytes(ANSWER)
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(folder / "fifo")
    (folder / "a.har").write_bytes(har(entry({"response.content": {"_file": place}})))
    (recorded,) = load_har(folder / "a.har")
    assert recorded.response_body is None


@pytest.mark.parametrize("folder", ["", "trace/"])
def test_bodies_are_read_from_a_zip_archive(tmp_path: Path, folder: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}bodies/1.json", ANSWER)
        archive.writestr(f"{folder}har.har", har(ATTACHED, entry({"response.content": {"_file": "../../secret"}})))
    first, second = load_har(tmp_path / "a.zip")
    assert first.response_body == ANSWER
    assert second.response_body is None


def test_a_compressed_har_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.har.gz").write_bytes(gzip.compress(har(entry())))
    assert len(load_har(tmp_path / "a.har.gz")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "The file is a zip archive that cannot be read."),
        (gzip.compress(har(), mtime=0)[:-9], "The file is compressed, and damaged or larger than 512 MiB."),
    ],
)
def test_a_damaged_archive_is_refused_with_a_message(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.har").write_bytes(content)
    with pytest.raises(HarError, match=message):
        load_har(tmp_path / "a.har")


def test_an_archive_without_a_har_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("bodies/1.json", ANSWER)
    with pytest.raises(HarError, match="without a HAR file"):
        load_har(tmp_path / "a.zip")


def test_a_decompression_bomb_is_unknown() -> None:
    bomb = gzip.compress(b"\0" * (65 << 20), mtime=0)
    content = {"text": base64.b64encode(bomb).decode(), "encoding": "base64"}
    headers = [{"name": "content-encoding", "value": "gzip"}]
    assert read({"response.content": content, "response.headers": headers}).response_body is None


FORM = "application/x-www-form-urlencoded; charset=utf-8"


@pytest.mark.parametrize(
    ("posted", "size", "body"),
    [
        ({"mimeType": "application/json", "text": '{"a":1}'}, 7, b'{"a":1}'),
        ({"mimeType": "application/json", "text": "eyJhIjoxfQ==", "encoding": "base64"}, 7, b'{"a":1}'),  # Reqable
        ({"mimeType": FORM, "params": [{"name": "a b", "value": "1&"}, {"name": "c"}]}, 9, b"a+b=1%26&c="),
        ({"mimeType": FORM, "text": "", "params": [{"name": "a", "value": "1"}]}, 3, b"a=1"),
        ({"mimeType": FORM, "text": "a=1", "params": [{"name": "a", "value": "1"}]}, 3, b"a=1"),
        ({"mimeType": "application/json", "text": "", "params": []}, 0, b""),
        ({"mimeType": "application/json", "text": ""}, 80, None),
        ({"mimeType": "multipart/form-data", "params": [{"name": "a", "value": "1"}]}, 80, None),
        ({"mimeType": FORM, "params": [7]}, 80, None),
        ("text", 4, None),
    ],
)
def test_a_request_body_is_read_or_unknown(posted: Any, size: int, body: bytes | None) -> None:
    assert read({"request.postData": posted, "request.bodySize": size}).request_body == body


@pytest.mark.parametrize(
    ("changes", "own", "reason"),
    [
        ({}, {}, ""),
        ({}, {"_resourceType": "fetch", "_webSocketMessages": []}, "WebSocket"),
        ({}, {"_resourceType": "websocket"}, "WebSocket"),
        ({"request.url": "wss://api.example/"}, {}, "WebSocket"),
        ({"response.status": 101}, {}, "WebSocket"),
        ({"request.url": "chrome-extension://abc/x.js"}, {}, "HTTP"),
        ({"request.url": "http://[broken/"}, {}, "HTTP"),
        ({"request.method": "options"}, {}, "browser or the proxy"),
        ({"response.status": 0}, {"_error": "net::ERR_ABORTED"}, "no response"),
        ({"response.status": -1}, {}, "no response"),
        ({"response.status": 304}, {}, "cache"),
        ({}, {"_fromCache": "disk"}, "cache"),
        ({"response.status": 307}, {}, "redirected"),
    ],
)
def test_an_irrelevant_exchange_is_skipped(changes: dict[str, Any], own: dict[str, Any], reason: str) -> None:
    skipped = read(changes, **own).skipped
    assert reason in skipped
    assert bool(skipped) == bool(reason)


def test_optional_parts_may_be_missing() -> None:
    missing = ("request.headers", "response.headers", "startedDateTime", "time", "timings", "cache")
    recorded = read(dict.fromkeys(missing))
    assert (recorded.started, recorded.seconds, recorded.request_headers) == (0.0, 0.0, ())
    assert recorded.response_headers == (("content-type", "application/json"),)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T23:25:18.25+01:00", 1795386318.25),
        ("2026-11-22T22:25:18.2500000Z", 1795386318.25),
        ("2026-11-22T22:25:18", 1795386318.0),
        ("yesterday", 0.0),
        (7, 0.0),
    ],
)
def test_times_are_read_in_the_formats_of_recorders(text: Any, moment: float) -> None:
    assert read(startedDateTime=text).started == moment


def test_user_names_and_passwords_are_removed_from_urls() -> None:
    recorded = read({"request.url": "https://user:pass@api.example:8443/a#b"})
    assert (recorded.url, recorded.path) == ("https://api.example:8443/a", "/a")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    *ENTRY,
    *(f"{part}.{name}" for part in ("request", "response") for name in ENTRY[part]),
    *("request.postData", "response.content.text", "response.content.encoding", "response.content.size"),
]


@given(changes=st.dictionaries(st.sampled_from(PLACES), values.filter(lambda value: value is not None), max_size=4))
def test_a_file_is_read_or_refused_whatever_it_contains(changes: dict[str, Any]) -> None:
    inner_first = dict(sorted(changes.items(), key=lambda change: -change[0].count(".")))
    with contextlib.suppress(HarError):
        assert read(inner_first).status >= 0
