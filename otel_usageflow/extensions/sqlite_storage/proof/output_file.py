"""Writing a file that is there as a whole or not at all, and never in the place of another."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_usageflow.errors import StorageError, UsageError
from otel_usageflow.extensions.sqlite_storage.file import sync_directory


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """The path of an empty file beside `path`, mode 0600; on success it is synced and takes that name.

    Raises:
        UsageError: the name is taken, or there is no such folder.
        StorageError: it cannot be written; nothing is left of it.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already; name a new file, or move that one away")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; make it first")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        _take_name(partial, path)
        sync_directory(path.parent)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "; make room, or choose another disk" if full else ""
        raise StorageError(f"{path} cannot be written: {error.strerror}{remedy}; nothing of it was kept") from error
    finally:
        for rest in (partial, *(partial.with_name(partial.name + end) for end in ("-journal", "-wal", "-shm"))):
            rest.unlink(missing_ok=True)


def _take_name(partial: Path, path: Path) -> None:
    """Give a file its name; unlike `rename`, a link never replaces a file that has appeared meanwhile."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        raise UsageError(f"{path} exists already; name a new file, or move that one away") from None
    except OSError:  # a file system without links
        partial.rename(path)
