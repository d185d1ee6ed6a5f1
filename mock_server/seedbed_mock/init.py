"""The subcommand ``seedbed init``: files with which a project begins to use Seedbed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter
from seedbed_schemas import Contract, commands, default_contract, job_api, local
from seedbed_schemas.commands import JsonFlag, print_json
from seedbed_schemas.contract import ContractError
from seedbed_schemas.files import write_new
from seedbed_schemas.openapi import example_of
from seedbed_schemas.validation import for_display

_FILES: Final = Path(__file__).parent / "project_files"
_CONTRACT: Final = "seedbed.contract.json"

Status = Literal["created", "exists", "missing"]
"""What became of a file: ``missing`` is one that a dry run would create."""


class ProjectError(ValueError):
    """The files of a project cannot be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """A file of a project.

    Attributes:
        path: Its path in the project, with slashes.
        content: What it contains.
    """

    path: str
    content: bytes


def init(
    *,
    path: Path = Path(),
    contract: Path | None = None,
    dry_run: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    as_json: JsonFlag = False,
) -> int:
    """Add a pytest example, a config file and a CI workflow to a project.

    A file that exists is left as it is. If one cannot be written, none is.

    Args:
        path: Folder of the project; it is created if it does not exist.
        contract: Contract of your model, written by seedbed derive; a copy is added to the project. By default the
            built-in model.
        dry_run: Only show what would be written.
        as_json: Print a JSON object with the folder and its files.
    """
    try:
        files = project_files(Contract.load(contract) if contract else None)
        statuses = planned(path, files) if dry_run else create(path, files)
    except (ProjectError, ContractError) as error:
        return commands.fail("init", str(error))
    except OSError as error:
        fix = "Nothing was written; make room or change the permissions, then try again."
        return commands.fail("init", f"{error.filename or path}: {error.strerror}", fix=fix)
    if as_json:
        listed = [{"path": name, "status": status} for name, status in statuses.items()]
        print_json({"folder": str(path.absolute()), "dry_run": dry_run, "files": listed})
        return 0
    words = {"created": "created", "exists": "exists, left as it is", "missing": "would be created"}
    for name, status in statuses.items():
        print(f"{name}: {words[status]}")
    if not dry_run:
        print("\nRun the example with pytest, and start a server with seedbed serve.")
    return 0


def project_files(contract: Contract | None = None) -> list[ProjectFile]:
    """Return the files for a model, in the order in which they are written.

    Args:
        contract: The contract of a model that is not built in; ``None`` for the built-in model.

    Raises:
        ProjectError: No valid request of the model can be made.
    """
    # The other commands need no templates.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_FILES),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"toml": json.dumps, "python": _python}
    model = contract or default_contract()
    operation = model.operation
    values = {
        "contract": _CONTRACT if contract else "",
        "request": example_request(model),
        "path": operation.path,
        "header": operation.header,
        "scheme": f"{operation.scheme} " if operation.scheme else "",
        "port": local.PORT,
        "key": local.KEY,
        "credits": job_api().new_account_credits,
    }

    def render(name: str) -> bytes:
        return templates.get_template(f"{name}.jinja").render(values).encode()

    files = [
        ProjectFile("seedbed.toml", render("seedbed.toml")),
        ProjectFile("seedbed.schema.json", Path(__file__).with_name("seedbed.schema.json").read_bytes()),
        ProjectFile("tests/test_seedbed.py", render("test_seedbed.py")),
        ProjectFile(".github/workflows/seedbed.yml", (_FILES / "seedbed.yml").read_bytes()),
    ]
    if contract:
        text = json.dumps(contract.document, ensure_ascii=False, indent=2) + "\n"
        files.append(ProjectFile(_CONTRACT, text.encode()))
    return files


def example_request(model: Contract) -> Any:
    """Return a small valid request of a model.

    Raises:
        ProjectError: None can be made, since the contract has a rule that an example made from its schema breaks.
    """
    for whole in (False, True):
        request = example_of(model.part("request"), whole=whole)
        if model.request.accepts(request):
            return request
    raise ProjectError(
        f"Cannot make an example of {for_display(model.model)}: {model.request.violations(request)[0].message}. "
        "Add a default to this field in the contract."
    )


def _python(value: Any, indent: str = "") -> str:
    """Return a value of JSON as Python source, with an object on several lines."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(_python(each, indent) for each in value)}]"
    if not isinstance(value, dict) or not value:
        return repr(value)
    inner = f"{indent}    "
    lines = [f"{inner}{_python(name)}: {_python(each, inner)},\n" for name, each in value.items()]
    return f"{{\n{''.join(lines)}{indent}}}"


def planned(root: Path, files: list[ProjectFile]) -> dict[str, Status]:
    """Return by path which of the files exist and which are missing, without writing any.

    Raises:
        ProjectError: A folder cannot hold its file, or is outside of the project.
        OSError: A folder is not writable.
    """
    if "\0" in str(root) or (os.path.lexists(root) and not root.is_dir()):
        raise ProjectError(f"{for_display(str(root))} is not a folder; pass the folder of your project as --path.")
    statuses: dict[str, Status] = {}
    for file in files:
        path = root / file.path
        if os.path.lexists(path):
            statuses[file.path] = "exists"
            continue
        statuses[file.path] = "missing"
        for folder in reversed(path.relative_to(root).parents[:-1]):
            check_folder(root, root / folder)
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        if not os.access(nearest, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))
    return statuses


def check_folder(root: Path, folder: Path) -> None:
    """Check that a folder of a project, if it exists, can hold its files.

    Raises:
        ProjectError: It is no folder, or outside of the project.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ProjectError(f"{folder} is not a folder, so that no file can be written to it; move it away.")
    # What the project links to may belong to another one, or to the whole machine.
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ProjectError(f"{folder} leads out of the project, to {folder.resolve()}; replace the link by a folder.")


def create(root: Path, files: list[ProjectFile]) -> dict[str, Status]:
    """Write the files that do not exist, with their folders, and return by path what became of each.

    Raises:
        ProjectError: As for :func:`planned`.
        OSError: A file or folder cannot be written. None is left that this call has made.
    """
    statuses = planned(root, files)
    with contextlib.ExitStack() as undo:
        for file in files:
            path = root / file.path
            if statuses[file.path] == "exists":
                continue
            for folder in reversed([each for each in path.parents if not each.exists()]):
                folder.mkdir(exist_ok=True)
                undo.callback(_remove_folder, folder)
            try:
                write_new(path, file.content)
            except FileExistsError:  # another program was faster
                statuses[file.path] = "exists"
                continue
            undo.callback(path.unlink, missing_ok=True)
            statuses[file.path] = "created"
        undo.pop_all()
    return statuses


def _remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another program has put something into it
        folder.rmdir()
