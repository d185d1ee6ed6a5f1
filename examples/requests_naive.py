"""Make an image of each prompt, as it is often written: the HTTP library repeats what fails, and a minute is enough.

Usage: python requests_naive.py PROMPT...
"""

import json
import os
import sys
import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

BASE_URL = os.environ.get("SEEDREAM_BASE_URL", "https://api.kie.ai")
API_KEY = os.environ.get("SEEDREAM_API_KEY", "seedbed-key")  # by default the key of the mock server
FOLDER = Path(os.environ.get("SEEDBED_DRILL_FOLDER", "."))

session = requests.Session()
session.headers["Authorization"] = f"Bearer {API_KEY}"
# Mistake: allowed_methods=None also repeats createTask. If only its response was lost, the image is paid for twice.
retry = Retry(total=5, backoff_factor=0.1, status_forcelist=[500, 502, 503], allowed_methods=None)
session.mount("https://", HTTPAdapter(max_retries=retry))
session.mount("http://", HTTPAdapter(max_retries=retry))


def create_task(prompt):
    image_input = {"prompt": prompt, "aspect_ratio": "1:1", "quality": "basic"}
    body = {"model": "seedream/4.5-text-to-image", "input": image_input}
    # Mistake: repeated at once, whatever the code says. 401, 402 and 422 stay the same, 429 asks to wait, and after 500
    # the task may exist.
    for attempt in range(3):
        answer = session.post(f"{BASE_URL}/api/v1/jobs/createTask", json=body, timeout=10).json()
        if answer["code"] == 200:
            return answer["data"]["taskId"]
    raise RuntimeError(answer["msg"])


def wait_for(task_id):
    # Mistake: an image may take 15 minutes, and it is paid for, whether somebody waits for it or not.
    for _ in range(60):
        answer = session.get(f"{BASE_URL}/api/v1/jobs/recordInfo", params={"taskId": task_id}, timeout=10).json()
        record = answer["data"]
        if record and record["state"] == "success":
            return json.loads(record["resultJson"])["resultUrls"]
        if record and record["state"] == "fail":
            raise RuntimeError(record["failMsg"])
        time.sleep(1)
    raise TimeoutError(task_id)


for prompt in sys.argv[1:]:
    try:
        for url in wait_for(create_task(prompt)):
            (FOLDER / url.split("/")[-1]).write_bytes(session.get(url, timeout=10).content)
    except Exception as error:
        # Mistake: the error is printed, and the exit code says that all is well.
        print("failed:", prompt, error)
