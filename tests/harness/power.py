"""A disk whose power can be cut: what was synced stays, and of the rest some pages.

It stands behind the `sync` of the journal's settings and notes, at every sync, what the file or
directory looks like. At the cut a directory is made that a disk could be left with:

  * a file has, for each page, what it had at its last sync or what it has now;
  * a name that was made, moved or removed since the directory's last sync is either;
  * a file that was never synced may have any length, filled with zeros.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from pathlib import Path

PAGE = 4_096


class PowerCut(BaseException):
    """There is no more power."""


class PowerSupply:
    """Gives a directory power until a sync of choice."""

    def __init__(self, directory: Path, rng: random.Random, syncs: int) -> None:
        self._directory = directory
        self._rng = rng
        self._syncs_left = syncs
        self._lock = threading.Lock()
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self._held: dict[int, int] = {}
        """Open descriptors, so that the number of a deleted file is not given to another."""
        self.left: dict[str, bytes] | None = None
        """After the cut: the files that are left."""
        if directory.exists():
            self._names = self._current_names()
            for name in self._names:
                self._note(directory / name)

    def sync(self, descriptor: int) -> None:
        """Make a file or the directory durable, unless the power goes."""
        with self._lock:
            if self.left is not None:
                raise PowerCut
            last = self._syncs_left == 0
            self._syncs_left -= 1
            # The power may go just before the sync is done, or just after.
            if not last or self._rng.random() < 0.5:
                self._note(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
            if last:
                self.left = self._cut()
                raise PowerCut

    def cut_now(self) -> None:
        """Cut the power, if it is still there."""
        with self._lock:
            if self.left is None:
                self.left = self._cut()

    def _note(self, path: Path) -> None:
        if path == self._directory:
            self._names = self._current_names()
        elif path.parent == self._directory:
            inode = path.stat().st_ino
            self._contents[inode] = path.read_bytes()
            if inode not in self._held:
                self._held[inode] = os.open(path, os.O_RDONLY)

    def _current_names(self) -> dict[str, int]:
        # From the directory alone: the journal's threads go on deleting meanwhile.
        with os.scandir(self._directory) as entries:
            return {entry.name: entry.inode() for entry in entries}

    def _cut(self) -> dict[str, bytes]:
        now = self._current_names()
        current: dict[int, bytes] = {}
        for name, inode in now.items():
            with contextlib.suppress(FileNotFoundError):
                current[inode] = (self._directory / name).read_bytes()
        left: dict[str, bytes] = {}
        for name in sorted(now.keys() | self._names.keys()):
            inode = self._rng.choice([now, self._names]).get(name)
            if inode is not None:
                left[name] = self._mixed(self._contents.get(inode), current.get(inode))
        for descriptor in self._held.values():
            os.close(descriptor)
        return left

    def _mixed(self, synced: bytes | None, current: bytes | None) -> bytes:
        """Return pages of what was synced and of what is there now."""
        if current is None:
            return synced or b""
        old = (synced if synced is not None else b"").ljust(len(current), b"\0")
        if synced is not None and len(synced) > len(current):
            # A file only shrinks when nothing behind its end is needed.
            return current if self._rng.random() < 0.5 else synced
        pages = [
            self._rng.choice([old, current])[start : start + PAGE]
            for start in range(0, len(current), PAGE)
        ]
        return b"".join(pages)

    def restore(self, target: Path) -> Path:
        """Make a directory of what is left."""
        assert self.left is not None
        target.mkdir()
        for name, data in self.left.items():
            (target / name).write_bytes(data)
        return target
