"""Atomic file writes: a reader sees either the old content or the new content, never a part."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path


def check_writable(path: Path) -> None:
    """Check that :func:`write_whole` can write a file, without writing it.

    Raises:
        OSError: The path is a directory, or its directory does not exist or is not writable.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such directory", str(path.parent))
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))


def write_whole(path: Path, content: bytes) -> None:
    """Create or replace a file atomically.

    Symbolic links are followed. Pipes and devices are written in place.

    Raises:
        OSError: The file cannot be written; its old content is unchanged.
    """
    check_writable(path)
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    mode = file_mode(path)
    # The draft must be on the same file system as the target, because only a rename is atomic. Its name is cut
    # because the name of the target may already have the maximum length.
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            # Without this, a power failure after the rename can leave an empty file.
            os.fsync(file.fileno())
        Path(draft).chmod(mode)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def write_new(path: Path, content: bytes) -> None:
    """Create a file that does not exist yet; it has all of its content or is not there.

    Raises:
        FileExistsError: Something has the name, even if it is a symbolic link to nothing.
        OSError: The file cannot be written; nothing is left of it.
    """
    # "x" never follows a link, so that no file elsewhere is created or changed.
    with path.open("xb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def file_mode(path: Path) -> int:
    """Return the permission bits of a file, or those of a new file if the path does not exist."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    # The umask can only be read by setting it. Files that another thread creates in between stay private.
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
