"""Writing a file as a whole: whoever reads it finds the old content or the new, never half of either."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path


def check_writable(path: Path) -> None:
    """Raise the ``OSError`` that :func:`write_whole` would, as far as it can be known without writing."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))


def write_whole(path: Path, content: bytes) -> None:
    """Replace or create a file; a link is followed, and what is no regular file, such as a pipe, is just written to.

    Raises:
        OSError: The file cannot be written; what was there before still is.
    """
    check_writable(path)
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    mode = file_mode(path)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(mode)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def file_mode(path: Path) -> int:
    """Return the permissions of a file; where there is none, those that a new one gets."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
