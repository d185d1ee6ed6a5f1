"""Make an image of each prompt with the asynchronous client of Seedbed, side by side, and pay for each of them once.

Usage: python client_async.py PROMPT...

If it ends early, run it again: it goes on with the tasks that it has paid for.
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx2
from seedbed_client import AsyncSeedreamClient, SeedreamError

FOLDER = Path(os.environ.get("SEEDBED_DRILL_FOLDER", "."))  # a drill has an empty folder for each run


async def make(client, prompt):
    """Make the image of a prompt, and return whether it is there."""
    try:
        # The log remembers the task of each key, here the prompt, and never creates another one for it.
        task = await client.generate_once(prompt, prompt, log=FOLDER / "jobs.db")
        await client.download(task.result_urls[0], to=FOLDER / f"{task.task_id}.jpg")
    except (SeedreamError, httpx2.RequestError) as error:
        print(f"{prompt}: {error}", file=sys.stderr)
        return False
    print(f"{prompt}: done")
    return True


async def main(prompts):
    # The address and the key are in SEEDBED_BASE_URL and SEEDBED_API_KEY. For the paid service, use
    # AsyncSeedreamClient.live(key).
    async with AsyncSeedreamClient() as client:
        made = await asyncio.gather(*(make(client, prompt) for prompt in prompts))
    return 0 if all(made) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
