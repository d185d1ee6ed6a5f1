"""Client libraries × ways to the mock server × what they call: each program has the address of the service built in.

A program creates a task with a callback, fetches its record, and fetches its image, as docs/interception.md says. The
receiver of the callback is on this machine.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from seedbed_mock import MockServer, running
from seedbed_mock.cli import main
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of

API = job_api()
SETTINGS = {
    "create": f"{API.server}{API.create_task.path}",
    "record": f"{API.server}{API.record_info.path}?{API.record_info.query}=",
    "headers": {"Authorization": f"Bearer {local.KEY}", "Content-Type": "application/json"},
    "body": example_of(default_contract().part("request")),
}
SECONDS = 60

# Each program reads SETTINGS from its first argument, and prints the code of the two calls, the start of the URL of the
# image, and its first bytes as hexadecimal digits.

PYTHON = """
import json, sys
S = json.loads(sys.argv[1])
def main(post, get):
    created = json.loads(post(S["create"], S["body"]))
    record = json.loads(get(S["record"] + created["data"]["taskId"]))
    url = json.loads(record["data"]["resultJson"])["resultUrls"][0]
    print(created["code"], record["code"], url[:19], get(url)[:2].hex())
"""

REQUESTS = """
import requests
main(
    lambda url, body: requests.post(url, json=body, headers=S["headers"]).content,
    lambda url: requests.get(url, headers=S["headers"]).content,
)
"""

HTTPX2 = """
import httpx2
with httpx2.Client(headers=S["headers"]) as client:
    main(lambda url, body: client.post(url, json=body).content, lambda url: client.get(url).content)
"""

URLLIB = """
from urllib.request import Request, urlopen
def call(url, body=None):
    with urlopen(Request(url, body and json.dumps(body).encode(), S["headers"])) as response:
        return response.read()
main(call, call)
"""

AIOHTTP = """
import asyncio, aiohttp
async def call(url, body=None):
    async with aiohttp.ClientSession(headers=S["headers"]) as session:
        async with session.request("POST" if body else "GET", url, json=body) as response:
            return await response.read()
main(lambda url, body: asyncio.run(call(url, body)), lambda url: asyncio.run(call(url)))
"""

TRUSTING_AIOHTTP = AIOHTTP.replace('S["headers"])', 'S["headers"], trust_env=True)')

NODE = """
const S = JSON.parse(process.argv[1]);
async function main(call) {
  const created = JSON.parse(await call(S.create, JSON.stringify(S.body)));
  const record = JSON.parse(await call(S.record + created.data.taskId));
  const url = JSON.parse(record.data.resultJson).resultUrls[0];
  const image = await call(url);
  console.log(created.code, record.code, url.slice(0, 19), image.subarray(0, 2).toString('hex'));
}
"""

FETCH = """
main(async (url, body) => {
  const response = await fetch(url, {method: body ? 'POST' : 'GET', body, headers: S.headers});
  return Buffer.from(await response.arrayBuffer());
});
"""

HTTPS = """
const https = require('https');
main((url, body) => new Promise((resolve, reject) => {
  const request = https.request(url, {method: body ? 'POST' : 'GET', headers: S.headers}, (response) => {
    const chunks = [];
    response.on('data', (chunk) => chunks.push(chunk));
    response.on('end', () => resolve(Buffer.concat(chunks)));
  });
  request.on('error', reject);
  request.end(body);
}));
"""

CURL = r"""
set -e
field() { sed -n "s/.*\"$1\": *\\\\*\"\{0,1\}\([^,\"\\\\}]*\).*/\1/p"; }
body=$(printf '%s' "$1" | sed 's/.*"body": //; s/}$//')
created=$(curl -sS CREATE -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' -d "$body")
record=$(curl -sS "RECORD$(printf '%s' "$created" | field taskId)" -H 'Authorization: Bearer KEY')
url=$(printf '%s' "$record" | grep -o 'https://[^"\\]*/results/[^"\\]*')
image=$(curl -sS "$url" | head -c 2 | od -An -tx1 | tr -d ' ')
echo "$(printf '%s' "$created" | field code) $(printf '%s' "$record" | field code) $(printf '%.19s' "$url") $image"
"""
CURL = (
    CURL.replace("CREATE", str(SETTINGS["create"])).replace("RECORD", str(SETTINGS["record"])).replace("KEY", local.KEY)
)

GO = """
package main

import ("bytes"; "encoding/json"; "fmt"; "io"; "net/http"; "os")

type settings struct { Create, Record string; Headers map[string]string; Body json.RawMessage }
type answer struct { Code int; Data struct { TaskId, ResultJson string } }

func main() {
	var s settings
	json.Unmarshal([]byte(os.Args[1]), &s)
	call := func(method, url string, body []byte) []byte {
		request, _ := http.NewRequest(method, url, bytes.NewReader(body))
		for name, value := range s.Headers { request.Header.Set(name, value) }
		response, err := http.DefaultClient.Do(request)
		if err != nil { panic(err) }
		content, _ := io.ReadAll(response.Body)
		return content
	}
	var created, record answer
	var result struct { ResultUrls []string }
	json.Unmarshal(call("POST", s.Create, s.Body), &created)
	json.Unmarshal(call("GET", s.Record + created.Data.TaskId, nil), &record)
	json.Unmarshal([]byte(record.Data.ResultJson), &result)
	url := result.ResultUrls[0]
	fmt.Printf("%d %d %s %x\\n", created.Code, record.Code, url[:19], call("GET", url, nil)[:2])
}
"""

PROGRAMS: dict[str, list[str]] = {
    "requests": [sys.executable, "-c", PYTHON + REQUESTS],
    "httpx2": [sys.executable, "-c", PYTHON + HTTPX2],
    "urllib": [sys.executable, "-c", PYTHON + URLLIB],
    "aiohttp": [sys.executable, "-c", PYTHON + AIOHTTP],
    "aiohttp with trust_env": [sys.executable, "-c", PYTHON + TRUSTING_AIOHTTP],
    "curl": ["sh", "-c", CURL, "curl"],
    "Node fetch": ["node", "-e", NODE + FETCH],
    "Node https": ["node", "-e", NODE + HTTPS],
    "Go": ["go"],
}
RUN, ENVIRONMENT, PROXY = "seedbed run", "seedbed env", "proxy variables"

HOOKS = ("PYTHONPATH", "NODE_OPTIONS", "SEEDBED_HOOK", "NODE_USE_ENV_PROXY")

IGNORES_PROXIES = {"aiohttp", "Node fetch", "Node https"}
"""Programs that would call the paid service if they had nothing but the proxy variables."""

_SOME = {"requests", "aiohttp", "Node fetch"}

CELLS = [
    # These have all parts of the others.
    pytest.param(stack, way, marks=[] if way == RUN and stack in _SOME else pytest.mark.slow, id=f"{stack}, {way}")
    for stack in PROGRAMS
    for way in (RUN, ENVIRONMENT, PROXY)
    if way != PROXY or stack not in IGNORES_PROXIES
]


class Receiver(ThreadingHTTPServer):
    """Receives callbacks."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, object]] = []
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/callback"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, receiver: Receiver, *arguments: object) -> None:
        self._receiver = receiver
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        self._receiver.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name of the library)
        pass


@pytest.fixture(scope="module", name="receiver")
def make_receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        Thread(target=receiver.serve_forever, daemon=True).start()
        yield receiver
        receiver.shutdown()


@pytest.fixture(scope="module", name="folder")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module", name="server")
def make_server(folder: Path) -> Iterator[MockServer]:
    assert folder.exists()
    with running(tls=True, task_seconds=0, rate_limit="off", credits=10**6) as server:
        yield server
        assert not server.errors


@pytest.fixture(scope="module", name="go")
def make_go_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO, encoding="utf-8")
    environment = os.environ | {"GOCACHE": str(folder / "cache"), "GO111MODULE": "off", "GOFLAGS": ""}
    subprocess.run(["go", "build", "-o", "program", "main.go"], cwd=folder, env=environment, check=True)
    return str(folder / "program")


def environment_of(server: MockServer, capfd: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["env", "--url", server.url, "--format", "json"]) == 0
    variables: dict[str, str] = json.loads(capfd.readouterr().out)
    inherited = {name: value for name, value in os.environ.items() if name != "SSL_CERT_DIR"}
    return inherited | variables


@pytest.fixture(name="call")
def make_call(
    receiver: Receiver, server: MockServer, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> Callable[[str, str], tuple[int, str, str]]:
    """Return a function that runs a program in one of the ways, and returns its exit code and what it printed."""

    def call(stack: str, way: str) -> tuple[int, str, str]:
        command = [request.getfixturevalue("go")] if stack == "Go" else PROGRAMS[stack]
        body = {**SETTINGS["body"], API.fields.callback: receiver.url}
        command = [*command, json.dumps({**SETTINGS, "body": body})]
        if way == RUN:
            code, shown = main(["run", "--task-seconds", "0", "--", *command]), capfd.readouterr()
            return code, shown.out, shown.err
        environment = environment_of(server, capfd)
        if way == PROXY:
            environment = {name: value for name, value in environment.items() if name not in HOOKS}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        server.wait_for_callbacks()
        return result.returncode, result.stdout, result.stderr

    return call


@pytest.mark.parametrize(("stack", "way"), CELLS)
def test_a_program_with_the_address_built_in_reaches_the_mock_server(
    stack: str, way: str, receiver: Receiver, call: Callable[[str, str], tuple[int, str, str]]
) -> None:
    if shutil.which(PROGRAMS[stack][0]) is None:
        pytest.skip(f"needs {PROGRAMS[stack][0]}")
    receiver.bodies.clear()
    code, printed, errors = call(stack, way)
    assert (code, printed) == (0, f"200 200 {API.server}/ ffd8\n"), errors
    assert [each["code"] for each in receiver.bodies] == [200]


def test_the_documented_matrix_is_the_tested_one() -> None:
    page = (Path(__file__).parents[2] / "docs/interception.md").read_text(encoding="utf-8")
    rows = page.split("<!-- matrix -->")[1].split("\n\n")[1].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert {client: proxies == "yes" for client, _, _, proxies in cells} == {
        stack: stack not in IGNORES_PROXIES for stack in PROGRAMS
    }
    assert all(by_run == by_environment == "yes" for _, by_run, by_environment, _ in cells)
