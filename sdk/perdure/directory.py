"""Data directories: held by one process at a time, their files replaced whole and durably."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from perdure.errors import ConfigError, StorageHeld

__all__ = ["LOCK_FILE", "DirectoryLock", "replace_file", "sync_directory"]

LOCK_FILE: Final = "lock"


class DirectoryLock:
    """Holds a directory until it is closed, or its process ends, however that happens."""

    def __init__(self, directory: Path, *, make: bool) -> None:
        """Take the lock.

        Args:
            directory: What to hold.
            make: Make the directory, for its owner only, when it is not there.

        Raises:
            FileNotFoundError: The directory is not there.
            StorageHeld: Another process (or another lock of this one) holds it.
            ConfigError: It cannot be used at all.
        """
        try:
            if make and not directory.exists():
                directory.mkdir(mode=0o700, parents=True)
                sync_directory(directory.parent)
            self._descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ConfigError(
                f"the data directory {directory} cannot be used: {error.strerror}"
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
            self.close()
            raise StorageHeld(
                f"the data directory {directory} is in use by "
                f"{f'process {holder}' if holder else 'another process'}: "
                f"stop that one, or use another directory"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """Let the directory go. Closing twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def replace_file(path: Path, text: str) -> None:
    """Write a file so that after a crash at any moment it is wholly old or wholly new.

    On return the new content is durable.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
