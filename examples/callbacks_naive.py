"""Make an image of each prompt and be told by callbacks, as it is often written: every callback is believed.

Usage: python callbacks_naive.py PROMPT...
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2

BASE_URL = os.environ.get("SEEDREAM_BASE_URL", "https://api.kie.ai")
API_KEY = os.environ.get("SEEDREAM_API_KEY", "seedbed-key")  # by default the key of the mock server
FOLDER = Path(os.environ.get("SEEDBED_DRILL_FOLDER", "."))

client = httpx2.Client(base_url=BASE_URL, headers={"Authorization": f"Bearer {API_KEY}"}, timeout=10)
finished = threading.Semaphore(0)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        # Mistake: the signature is not checked, so anybody can send this.
        callback = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if callback["code"] == 200:
            task = callback["data"]
            # Mistake: a repeated callback does all the work again, and the service waits for the response meanwhile.
            image = client.get(json.loads(task["resultJson"])["resultUrls"][0]).content
            (FOLDER / f"{task['taskId']}.jpg").write_bytes(image)
        self.send_response(200)
        self.end_headers()
        # Mistake: a repeated callback counts as another image.
        finished.release()


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
# The service must reach this address; behind a tunnel or a proxy, it is another one.
callback_url = os.environ.get("CALLBACK_URL", f"http://127.0.0.1:{server.server_port}/")

for prompt in sys.argv[1:]:
    image_input = {"prompt": prompt, "aspect_ratio": "1:1", "quality": "basic"}
    body = {"model": "seedream/4.5-text-to-image", "input": image_input, "callBackUrl": callback_url}
    client.post("/api/v1/jobs/createTask", json=body)

# Mistake: a callback may never come, and no task was created where the request was refused.
for _ in sys.argv[1:]:
    finished.acquire()
