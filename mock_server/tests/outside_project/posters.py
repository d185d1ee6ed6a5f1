"""The program of the project: it orders posters from the service at its fixed address, or at another one."""

import json
from typing import Any

import httpx
import requests

SERVICE = "https://api.kie.ai"
CREATE = "/api/v1/jobs/createTask"
RECORD = "/api/v1/jobs/recordInfo"


def order(prompt: str, callback: str = "") -> dict[str, Any]:
    values = {"prompt": prompt, "aspect_ratio": "2:3", "quality": "basic"}
    request: dict[str, Any] = {"model": "seedream/4.5-text-to-image", "input": values}
    return {**request, "callBackUrl": callback} if callback else request


def create(client: httpx.Client, prompt: str) -> str:
    return str(client.post(CREATE, json=order(prompt)).json()["data"]["taskId"])


async def create_async(client: httpx.AsyncClient, prompt: str, callback: str = "") -> str:
    return str((await client.post(CREATE, json=order(prompt, callback))).json()["data"]["taskId"])


def create_with_requests(url: str, key: str, prompt: str) -> str:
    headers = {"Authorization": f"Bearer {key}"}
    return str(requests.post(url + CREATE, json=order(prompt), headers=headers, timeout=20).json()["data"]["taskId"])


def poster(client: httpx.Client, task_id: str) -> bytes | None:
    record = client.get(RECORD, params={"taskId": task_id}).json()["data"]
    if record["state"] != "success":
        return None
    return client.get(json.loads(record["resultJson"])["resultUrls"][0]).content
