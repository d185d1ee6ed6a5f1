"""Make an image of each prompt, pay for each of them once, and learn from callbacks when they are ready.

Usage: SEEDREAM_SIGNING_KEY=... python callbacks_careful.py PROMPT...

If it ends early, run it again: it goes on with the tasks that it has paid for. A callback is only a reason to look at
the record, which decides. So a callback that is lost, late, repeated or wrong does no harm.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue

import httpx2

BASE_URL = os.environ.get("SEEDREAM_BASE_URL", "https://api.kie.ai")
API_KEY = os.environ.get("SEEDREAM_API_KEY", "seedbed-key")  # by default the key of the mock server
SIGNING_KEY = os.environ["SEEDREAM_SIGNING_KEY"].encode()
FOLDER = Path(os.environ.get("SEEDBED_DRILL_FOLDER", "."))  # a drill has an empty folder for each run
DEADLINE = 15 * 60  # the service advises to give up after 10 to 15 minutes, and some images take that long
TOLERANCE = 5 * 60  # an older signature may be one that somebody has recorded and sends again


class Problem(Exception):
    """There is no image of a prompt, for this reason."""


class Receiver(BaseHTTPRequestHandler):
    """Checks callbacks and confirms them at once: the service waits 15 s, so the work is done elsewhere."""

    timeout = 10  # seconds for which a sender may be silent

    def do_POST(self):
        inbox = self.server.inboxes.get(self.path.strip("/"))
        size = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(size)) if size.isdecimal() and int(size) < 1_000_000 else b""
        _, record = read(body)
        task_id = record.get("taskId") if record else None
        is_genuine = inbox is not None and is_signed(self.headers, task_id)
        if is_genuine:
            inbox.put(task_id)
        self.send_response(200 if is_genuine else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def is_signed(headers, task_id):
    timestamp, signature = headers.get("X-Webhook-Timestamp", ""), headers.get("X-Webhook-Signature", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    digest = hmac.digest(SIGNING_KEY, f"{task_id}.{timestamp}".encode(), "sha256")
    # Not ==, which takes the longer, the more of a forged signature is right.
    return hmac.compare_digest(base64.b64encode(digest), signature.encode())


def read(body):
    """Return the code and the data of a response or callback, or None and None if it is not one of the service."""
    # The outcome is the code in the body: the HTTP status is 200 for errors, too.
    try:
        answer = json.loads(body)
        data = answer.get("data")
        return answer["code"], data if isinstance(data, dict) else None
    except (ValueError, KeyError, AttributeError):
        return None, None


def retry_after(response):
    value = response.headers.get("Retry-After", "")
    return int(value) if value.isdecimal() else 0


def create_task(client, prompt, file, callback_url):
    """Return the ID of a new task, or None if it is unknown whether it exists: its callback will show."""
    image_input = {"prompt": prompt, "aspect_ratio": "1:1", "quality": "basic"}
    body = {"model": "seedream/4.5-text-to-image", "input": image_input, "callBackUrl": callback_url}
    for attempt in range(8):
        try:
            response = client.post("/api/v1/jobs/createTask", json=body)
        except httpx2.ConnectError as error:
            file.unlink()
            raise Problem("the service cannot be reached; nothing was sent") from error
        except httpx2.RequestError:
            # The request may have arrived, and a second one might pay for a second image.
            return None
        code, data = read(response.content)
        if code == 200 and data and data.get("taskId"):
            file.write_text(data["taskId"])
            return data["taskId"]
        if code not in (429, 455):
            break
        # Too many requests, or maintenance: no task was created, and it is worth another try, but not at once.
        time.sleep(max(retry_after(response), min(5 * 2**attempt, 60)))
    if code in (401, 402, 404, 422, 429, 455, 501, 505):
        # Refused, so there is no task. To repeat the same request is pointless.
        file.unlink()
        raise Problem(f"the service refused it with code {code}")
    return None


def query(client, task_id):
    """Return the record of a task, or None if this response does not have it, and the seconds to wait."""
    try:
        response = client.get("/api/v1/jobs/recordInfo", params={"taskId": task_id})
    except httpx2.RequestError:
        return None, 0
    code, record = read(response.content)
    if code == 401:
        raise Problem(f"the key was refused; the task {task_id} is kept for a run with the right one")
    # Other errors may pass, also "unknown task": a new task is unknown for a moment.
    return record if code == 200 else None, retry_after(response)


def wait_for(client, task_id, file, inbox):
    """Return the record of a task once it has ended. Its ID may still be unknown."""
    begun, pause = time.monotonic(), 30
    while True:
        try:
            told = inbox.get(timeout=pause)
            pause = 3  # a callback may be a little ahead of the record
            if not task_id:
                # The path of the callback names the file, so this is the task whose response was lost.
                task_id = told
                file.write_text(task_id)
        except Empty:
            pause = 30  # a callback may be lost, so the task is also queried now and then
        if task_id:
            record, limit = query(client, task_id)
            if record and record.get("state") in ("success", "fail"):
                return record
            if limit:
                time.sleep(limit)
        if time.monotonic() - begun > DEADLINE:
            if task_id:
                raise Problem(f"the task {task_id} has not ended; run this again to go on")
            raise Problem(f"its task may exist; look into your account, then write its ID into {file}")


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


def generate(client, prompt, server, base_url):
    """Make the image of a prompt, and return whether it is there."""
    name = hashlib.sha256(prompt.encode()).hexdigest()[:16]
    file = FOLDER / f"{name}.task"
    # The name in the URL says which image a callback is about, even if the response with the task ID is lost.
    inbox = server.inboxes[name] = Queue()
    try:
        # Made before the request is sent: if this program is killed now, the next run knows that a task may exist.
        # Only one of two runs at the same time can make it.
        try:
            file.touch(exist_ok=False)
            task_id = create_task(client, prompt, file, f"{base_url}/{name}")
        except FileExistsError:
            task_id = file.read_text()
            inbox.put(task_id)  # its callback may have come while nobody listened
            if not task_id:
                raise Problem(f"its task may exist; look into your account, then write its ID into {file}") from None
        record = wait_for(client, task_id, file, inbox)
        if record["state"] == "fail":
            raise Problem(f"its task failed, which costs nothing ({record.get('failCode')}: {record.get('failMsg')})")
        fetch_image(record)
    except Problem as problem:
        print(f"{prompt}: {problem}", file=sys.stderr)
        return False
    print(f"{prompt}: done")
    return True


def main(prompts):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.inboxes = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # The service must reach this address; behind a tunnel or a proxy, it is another one.
    base_url = os.environ.get("CALLBACK_URL", f"http://127.0.0.1:{server.server_port}")
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with httpx2.Client(base_url=BASE_URL, headers=headers, timeout=30) as client, ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda prompt: generate(client, prompt, server, base_url), dict.fromkeys(prompts)))
    # Scripts rely on the exit code: it is 0 only if every image is there.
    return 0 if all(made) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
