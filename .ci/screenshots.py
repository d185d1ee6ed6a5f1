"""Take the screenshots of the dashboard that the documentation shows.

Run ``python .ci/screenshots.py`` in a checkout with Chromium. ``--all FOLDER`` also takes each view, wide and narrow,
light and dark, for a look at them.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image
from playwright.sync_api import sync_playwright
from seedbed_mock import MockServer, running
from seedbed_schemas import default_contract, local
from seedbed_schemas.openapi import example_of

IMAGES = Path(__file__).parents[1] / "docs/images"
CONTRACT = default_contract()
HOME = "/__seedbed/"
PROMPTS = ("A hill at dawn", "A lighthouse in a storm", "Two foxes in the snow", "A market at night", "A paper boat")
VIEWS = ("tasks", "calls", "callbacks", "accounts", "faults")
LARGEST_IMAGE = 150_000


def fill(server: MockServer) -> tuple[str, str]:
    """Make calls of all kinds; return the ID of a task, and the number of a refused call."""
    good: dict[str, Any] = example_of(CONTRACT.part("request"))
    url = f"{server.url}{CONTRACT.operation.path}"
    with httpx2.Client(headers={"Authorization": f"Bearer {local.KEY}"}, trust_env=False) as client:
        tasks = []
        for prompt in PROMPTS:
            body = {**good, "input": {**good["input"], "prompt": prompt}, "callBackUrl": "http://127.0.0.1:9/callback"}
            tasks.append(client.post(url, json=body).json()["data"]["taskId"])
            server.advance(7)
        server.add_faults("429; p=0.2", "task.late; nth=3")
        client.post(url, json={**good, "input": {**good["input"], "quality": "best", "aspect_ratio": "5:7"}})
        client.post(url, json=good, headers={"X-Seedbed-Fault": "455"})
        client.get(f"{url}s")
        client.get(f"{server.url}/api/v1/jobs/recordInfo", params={"taskId": tasks[0]})
        client.post(url, json=good)
    refused = next(call for call in server.calls if call["violations"])
    return tasks[1], str(refused["number"])


def take(page: Any, path: Path, query: str) -> None:
    """Take one screenshot."""
    page.goto(f"{HOME}{query}")
    page.wait_for_load_state("load")
    # Images that are loaded late would be missing.
    page.evaluate("""() => Promise.all([...document.images].map((image) => {
        image.loading = 'eager';
        return image.decode();
    }))""")
    page.wait_for_timeout(500)
    page.screenshot(path=path)


def shrink(path: Path) -> None:
    """Store a screenshot with the colours that it needs, so that it stays small."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {size} bytes")
    if size > LARGEST_IMAGE:
        raise SystemExit(f"{path} is larger than {LARGEST_IMAGE} bytes.")


def main(arguments: list[str]) -> None:
    """Take the screenshots."""
    chromium = shutil.which("chromium")
    with ExitStack() as stack:
        server = stack.enter_context(running(clock="manual", task_seconds=20))
        # Before Playwright begins, which keeps an event loop in this thread.
        task, call = fill(server)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        wide = {"width": 1180, "height": 660}
        page = browser.new_context(base_url=server.url, viewport=wide, color_scheme="light").new_page()
        for name, query in (("tasks", f"?opened={task}"), ("call", f"?view=calls&opened={call}")):
            take(page, IMAGES / f"dashboard-{name}.png", query)
            shrink(IMAGES / f"dashboard-{name}.png")
        if arguments[:1] == ["--all"]:
            folder = Path(arguments[1])
            for scheme in ("light", "dark"):
                for width in (1180, 390):
                    size = {"width": width, "height": 760}
                    page = browser.new_context(base_url=server.url, viewport=size, color_scheme=scheme).new_page()
                    for view in VIEWS:
                        take(page, folder / f"{view}-{scheme}-{width}.png", f"?view={view}")
                    take(page, folder / f"task-{scheme}-{width}.png", f"?opened={task}")
                    take(page, folder / f"call-{scheme}-{width}.png", f"?view=calls&opened={call}")
                    take(page, folder / f"docs-{scheme}-{width}.png", "docs")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
