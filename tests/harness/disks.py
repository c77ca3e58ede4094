"""Small disks, for tests that fill them."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def mounted(path: Path, size_bytes: int) -> Iterator[None]:
    """Mount a file system of its own. Only root may."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Callable[[], None]]:
    """Make a directory with little room, and yield what makes more.

    For others than root it is the size of each file that is limited.
    """
    if os.geteuid() == 0:
        with mounted(path, 6 << 20):
            ballast = path / "ballast"
            ballast.write_bytes(bytes(3 << 20))
            yield ballast.unlink
        return
    path.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
