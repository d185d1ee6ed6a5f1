"""The subcommand ``seedbed generate``."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import httpx2
from cyclopts import Parameter
from seedbed_schemas import Contract, default_contract
from seedbed_schemas.contract import ContractError
from seedbed_schemas.files import check_writable, write_whole
from seedbed_schemas.refusals import printable

from seedbed_client.client import PATIENCE, SeedreamClient
from seedbed_client.config import KEY_VARIABLE
from seedbed_client.errors import ConfigurationError, SeedreamError
from seedbed_client.options import parse_fields, with_option_flags
from seedbed_client.progress import TaskProgress

_USAGE_ERROR = 2
_INTERRUPTED = 130


@with_option_flags
def generate(
    prompt: str,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    base_url: str | None = None,
    key: str | None = None,
    live: Annotated[bool, Parameter(negative="")] = False,
    contract: Path | None = None,
    field: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    timeout: float = PATIENCE,
    **options: object,
) -> int:
    """Generate an image and save it.

    Args:
        prompt: What the image shows.
        output: Where to save it; without it, in this folder under the name of the task.
        base_url: Where the service is; else SEEDBED_BASE_URL, else the local fake.
        key: API key; else SEEDBED_API_KEY, else the local fake's own.
        live: Call the paid service, which costs credits.
        contract: Contract of the model to ask, a file that seedbed derive wrote; by default the shipped one.
        field: A field of the input as NAME=VALUE, for those that have no flag here; may be repeated.
        timeout: Seconds after which to give up.
        options: What the contract lets one choose.
    """
    try:
        if output:
            check_writable(output)  # before the task costs anything
        chosen = Contract.load(contract) if contract else default_contract()
        fields = {**options, **parse_fields(field, chosen)}
        with _client(base_url, key, chosen, live=live) as client:
            return _generate(client, prompt, output, timeout, fields)
    except (ConfigurationError, ContractError) as error:
        return _fail(str(error), code=_USAGE_ERROR)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}", code=_USAGE_ERROR)
    except httpx2.ConnectError as error:
        url = error.request.url
        return _fail(f"nothing answers at {url.scheme}://{url.netloc.decode()}. Start the fake with: seedbed serve")
    except (SeedreamError, httpx2.HTTPError) as error:
        return _fail(". ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())]))


def _client(base_url: str | None, key: str | None, contract: Contract, *, live: bool) -> SeedreamClient:
    if live and base_url:
        raise ConfigurationError("--live and --base-url name two services: give one of them.")
    if live:
        return SeedreamClient.live(key or os.environ.get(KEY_VARIABLE, ""), contract=contract)
    return SeedreamClient(base_url, key, contract=contract)


def _generate(
    client: SeedreamClient, prompt: str, output: Path | None, timeout: float, options: dict[str, object]
) -> int:
    with TaskProgress() as progress:
        task_id = client.create_task(prompt, callback_url=None, **options)
        progress.say(f"{task_id}: asked for")
        try:
            task = client.wait(task_id, timeout=timeout, on_update=progress.update)
            images = [(url, client.download(url)) for url in task.result_urls]
        except KeyboardInterrupt:
            return _fail(f"no longer waiting; the task goes on as {task_id}", code=_INTERRUPTED)
    if not images:
        return _fail(f"{task_id} succeeded, but has no result")
    for number, (url, image) in enumerate(images, start=1):
        path = _path(output or _named_after(task_id), number)
        try:
            write_whole(path, image)
        except OSError as error:
            return _fail(f"{error.filename}: {error.strerror}. The image is still at {url}")
        print(f"Saved {path} ({len(image) // 1024} KiB)")
    return 0


def _named_after(task_id: str) -> Path:
    """Return a file in this folder, whatever the service put into the task's name."""
    return Path(f"{re.sub(r'[^A-Za-z0-9_-]', '_', task_id)}.jpg")


def _path(output: Path, number: int) -> Path:
    """Return where to save the image of that number; the first is where it was asked for."""
    return output if number == 1 else output.with_stem(f"{output.stem}-{number}")


def _fail(sentence: str, *, code: int = 1) -> int:
    print(f"seedbed generate: {printable(sentence).rstrip('.')}.", file=sys.stderr)
    return code
