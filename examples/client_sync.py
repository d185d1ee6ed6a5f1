"""Make an image of each prompt with the client of Seedbed, and pay for each of them once.

Usage: python client_sync.py PROMPT...

If it ends early, run it again: it goes on with the tasks that it has paid for.
"""

import os
import sys
from pathlib import Path

import httpx2
from seedbed_client import SeedreamClient, SeedreamError

FOLDER = Path(os.environ.get("SEEDBED_DRILL_FOLDER", "."))  # a drill has an empty folder for each run


def main(prompts):
    problems = 0
    # The address and the key are in SEEDBED_BASE_URL and SEEDBED_API_KEY. For the paid service, use
    # SeedreamClient.live(key).
    with SeedreamClient() as client:
        for prompt in prompts:
            try:
                # The log remembers the task of each key, here the prompt, and never creates another one for it.
                task = client.generate_once(prompt, prompt, log=FOLDER / "jobs.db")
                client.download(task.result_urls[0], to=FOLDER / f"{task.task_id}.jpg")
                print(f"{prompt}: done")
            except (SeedreamError, httpx2.RequestError) as error:
                problems += 1
                print(f"{prompt}: {error}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
