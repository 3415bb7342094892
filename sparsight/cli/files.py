"""Writing results: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from sparsight.core.errors import UserError


def check_target(path: Path) -> None:
    """Refuse a path that cannot be written, before the work whose result goes there."""
    folder = path.parent
    if not folder.is_dir():
        raise UserError(f"{path}: the folder {folder} does not exist; make it first")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file")
    if not os.access(folder, os.W_OK):
        raise UserError(f"{path}: the folder {folder} cannot be written to")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, so that no half of it is ever seen.

    What was there before stays until the new content is complete. Raises `OSError` that names
    `path` where the disk is full or the folder is gone.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=".sparsight-", delete=False
        ) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
