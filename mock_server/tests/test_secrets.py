"""Secrets, which no response and no output may contain: keys, signing keys and the control token."""

import signal
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from seedbed_mock.options import ServerOptions
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

CONTRACT, SHARED = default_contract(), job_api()
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
CREATE, RECORD, CREDIT = CONTRACT.operation.path, SHARED.record_info.path, SHARED.credit.path
MODELS = SHARED.models.path

KEY, WRONG, SIGNING, TOKEN = "sk-canary-key-1", "sk-canary-wrong-2", "whsec-canary-3", "canary-token-4"


def responses_of_control_api(url: str, headers: dict[str, str], task_id: str) -> str:
    """Return all responses of the control API with their headers, successful and not."""
    responses = []
    account = httpx2.get(f"{url}/__seedbed/accounts", headers=headers, trust_env=False).json()["accounts"][0]["account"]
    bodies: dict[str, Any] = {"/clock": {"advance": 1}, f"/accounts/{account}/top-up": {"credits": 1}, "/verify": {}}
    paths = ["health", "clock", "journal?limit=1000", "tasks", f"tasks/{task_id}", "accounts", f"accounts/{account}"]
    for path in (*paths, "callbacks", "openapi.json", "nowhere", f"accounts/{account}x"):
        responses += [httpx2.get(f"{url}/__seedbed/{path}", headers=headers, trust_env=False)]
    for path in ("/clock", f"/tasks/{task_id}/fail", f"/accounts/{account}/top-up", f"/callbacks/{task_id}/redeliver"):
        responses += [httpx2.post(f"{url}/__seedbed{path}", json=bodies.get(path), headers=headers, trust_env=False)]
    for path in ("/verify", f"/accounts/{account}/reset", "/reset"):
        responses += [httpx2.post(f"{url}/__seedbed{path}", json=bodies.get(path), headers=headers, trust_env=False)]
    responses.append(
        httpx2.get(f"{url}/__seedbed/health", headers={"Authorization": f"Bearer {WRONG}"}, trust_env=False)
    )
    return "".join(f"{response.headers}{response.text}" for response in responses)


@pytest.mark.slow
def test_no_response_and_no_output_contains_a_secret() -> None:
    options = ["--key", f"{KEY}:credits=80,signing-key={SIGNING}", "--control-token", TOKEN, "--clock", "manual"]
    command = [sys.executable, "-m", "seedbed_mock", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip().rpartition(" ")[2]
            responses = responses_of_run(url)
        finally:
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=20)
    assert not {secret for secret in (KEY, WRONG, SIGNING, TOKEN) if secret in responses}
    # The server prints its keys when it starts, since a client needs one, but no other secret.
    assert not {secret for secret in (WRONG, SIGNING, TOKEN) if secret in output}
    assert errors == ""


def responses_of_run(url: str) -> str:
    """Send requests with secrets wherever one can be, and return all responses of the control API afterwards."""
    body = {**GOOD, "callBackUrl": "http://127.0.0.1:9/"}
    task_id = ""
    for key in (KEY, WRONG, f"space:{KEY}", f"bad space!:{KEY}", f"{KEY}:{WRONG}"):
        headers = (
            {"Authorization": f"Bearer {key}", "X-Seedbed-Fault": ""}
            if ":" in key
            else {"Authorization": f"Bearer {key}"}
        )
        made = httpx2.post(url + CREATE, json=body, headers=headers, trust_env=False).json()
        task_id = (made.get("data") or {}).get("taskId") or task_id
        for path in (RECORD, CREDIT, MODELS, "/nowhere"):
            httpx2.get(url + path, headers=headers, trust_env=False)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    httpx2.post(f"{url}/__seedbed/tasks/{task_id}/finish", headers=headers, trust_env=False)
    return responses_of_control_api(url, headers, task_id)


def test_the_repr_of_options_contains_no_secret() -> None:
    key = f"{KEY}:signing-key={SIGNING}"
    options = ServerOptions(key=(key,), control_token=TOKEN)
    text = f"{options} {options.accounts} {vars(options)['accounts']}"
    assert not {secret for secret in (KEY, SIGNING, TOKEN) if secret in text}
