"""Make an image of each prompt, as it is often written: the whole job is tried again after any error.

Usage: python httpx2_naive.py PROMPT...
"""

import json
import os
import sys
import time
from pathlib import Path

import httpx2

BASE_URL = os.environ.get("SEEDREAM_BASE_URL", "https://api.kie.ai")
API_KEY = os.environ.get("SEEDREAM_API_KEY", "seedbed-key")  # by default the key of the mock server
FOLDER = Path(os.environ.get("SEEDBED_DRILL_FOLDER", "."))

client = httpx2.Client(base_url=BASE_URL, headers={"Authorization": f"Bearer {API_KEY}"}, timeout=10)


def generate(prompt):
    image_input = {"prompt": prompt, "aspect_ratio": "1:1", "quality": "basic"}
    body = {"model": "seedream/4.5-text-to-image", "input": image_input}
    task_id = client.post("/api/v1/jobs/createTask", json=body).json()["data"]["taskId"]
    while True:
        record = client.get("/api/v1/jobs/recordInfo", params={"taskId": task_id}).json()["data"]
        # Mistake: a task that has failed never succeeds, and this never stops asking.
        if record["state"] == "success":
            url = json.loads(record["resultJson"])["resultUrls"][0]
            (FOLDER / f"{task_id}.jpg").write_bytes(client.get(url).content)
            return
        time.sleep(1)


for prompt in sys.argv[1:]:
    for attempt in range(5):
        try:
            generate(prompt)
            print("made", prompt)
            break
        except Exception as error:
            # Mistake: the task may exist all the same. The next attempt pays for another one.
            print("trying again:", error)
