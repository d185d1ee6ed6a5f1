"""Make an image of each prompt, and pay for each of them once, whatever goes wrong.

Usage: python httpx2_careful.py PROMPT...

If it ends early, run it again: it goes on with the tasks that it has paid for.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import httpx2

BASE_URL = os.environ.get("SEEDREAM_BASE_URL", "https://api.kie.ai")
API_KEY = os.environ.get("SEEDREAM_API_KEY", "seedbed-key")  # by default the key of the mock server
FOLDER = Path(os.environ.get("SEEDBED_DRILL_FOLDER", "."))  # a drill has an empty folder for each run
DEADLINE = 15 * 60  # the service advises to give up after 10 to 15 minutes, and some images take that long


class Problem(Exception):
    """There is no image of a prompt, for this reason."""


class Unknown(Problem):
    """It is unknown whether the task of a prompt exists, and is paid for."""


def read(response):
    """Return the code and the data of a response, or None and None if it is not one of the service."""
    # The outcome is the code in the body: the HTTP status is 200 for errors, too.
    try:
        answer = response.json()
        return answer["code"], answer.get("data")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, None


def retry_after(response):
    value = response.headers.get("Retry-After", "")
    return int(value) if value.isdecimal() else 0


def create_task(client, prompt):
    """Return the ID of the task of a prompt, which is created if there is none yet."""
    # Made before the request is sent: if this program is killed now, the next run knows that a task may exist. Only
    # one of two runs at the same time can make it.
    record = FOLDER / f"{hashlib.sha256(prompt.encode()).hexdigest()[:16]}.task"
    try:
        record.touch(exist_ok=False)
    except FileExistsError:
        if task_id := record.read_text():
            return task_id
        raise Problem(f"its task may exist; look into your account, then write its ID into {record}") from None
    image_input = {"prompt": prompt, "aspect_ratio": "1:1", "quality": "basic"}
    body = {"model": "seedream/4.5-text-to-image", "input": image_input}
    for attempt in range(8):
        try:
            response = client.post("/api/v1/jobs/createTask", json=body)
        except httpx2.ConnectError as error:
            record.unlink()
            raise Problem("the service cannot be reached; nothing was sent") from error
        except httpx2.RequestError as error:
            # The request may have arrived, and a second one might pay for a second image.
            raise Unknown(f"its task may exist ({error!r})") from error
        code, data = read(response)
        if code == 200 and isinstance(data, dict) and data.get("taskId"):
            record.write_text(data["taskId"])
            return data["taskId"]
        if code not in (429, 455):
            break
        # Too many requests, or maintenance: no task was created, and it is worth another try, but not at once.
        time.sleep(max(retry_after(response), min(5 * 2**attempt, 60)))
    if code in (401, 402, 404, 422, 429, 455, 501, 505):
        # Refused, so there is no task. To repeat the same request is pointless.
        record.unlink()
        raise Problem(f"the service refused it with code {code}")
    raise Unknown(f"its task may exist (code {code}, HTTP status {response.status_code})")


def wait_for(client, task_id):
    """Return the record of a task once it has ended."""
    begun, failures = time.monotonic(), 0
    while True:
        code, record, pause = None, None, 0
        try:
            response = client.get("/api/v1/jobs/recordInfo", params={"taskId": task_id})
            code, record = read(response)
            pause = retry_after(response)
        except httpx2.RequestError:
            pass  # as after any other bad response
        if code == 401:
            raise Problem(f"the key was refused; the task {task_id} is kept for a run with the right one")
        is_known = code == 200 and isinstance(record, dict)
        if is_known and record.get("state") in ("success", "fail"):
            return record
        # Everything else may pass, also "unknown task": a new task is unknown for a moment. The task is paid for, so
        # bad responses are no reason to lose it.
        failures = 0 if is_known else failures + 1
        waited = time.monotonic() - begun
        if waited > DEADLINE:
            raise Problem(f"the task {task_id} has not ended; run this again to go on")
        # Often at first, seldom later, as the service advises, and even less often while it has trouble.
        interval = 2.5 if waited < 30 else 8 if waited < 120 else 20
        time.sleep(max(interval, pause, min(2**failures, 30) if failures else 0))


def fetch_image(record):
    """Save the image of a record, before the service deletes it."""
    try:
        url = json.loads(record["resultJson"])["resultUrls"][0]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise Problem(f"the record of task {record.get('taskId')} has no image") from error
    for attempt in range(4):
        if attempt:
            time.sleep(2**attempt)
        try:
            # Without the client, which would send the key. An image may be on any host.
            response = httpx2.get(url, timeout=60, follow_redirects=True)
        except (httpx2.HTTPError, httpx2.InvalidURL):
            continue
        # A JPEG file ends with these two bytes. Without them, it is half an image.
        if response.status_code == 200 and response.content.endswith(b"\xff\xd9"):
            (FOLDER / f"{record['taskId']}.jpg").write_bytes(response.content)
            return
    raise Problem(f"its image cannot be fetched from {url!r}")


def generate(client, prompt):
    record = wait_for(client, create_task(client, prompt))
    if record["state"] == "fail":
        raise Problem(f"its task failed, which costs nothing ({record.get('failCode')}: {record.get('failMsg')})")
    fetch_image(record)


def main(prompts):
    problems, pause = 0, 0
    with httpx2.Client(base_url=BASE_URL, headers={"Authorization": f"Bearer {API_KEY}"}, timeout=30) as client:
        for prompt in prompts:
            time.sleep(pause)
            pause = 0
            try:
                generate(client, prompt)
                print(f"{prompt}: done")
            except Problem as problem:
                problems += 1
                print(f"{prompt}: {problem}", file=sys.stderr)
                # The service has trouble. Without a pause, all the other tasks would become as uncertain.
                pause = 10 if isinstance(problem, Unknown) else 0
    # Scripts rely on the exit code: it is 0 only if every image is there.
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
