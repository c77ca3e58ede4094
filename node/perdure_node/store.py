"""A partition's store: its log applied, in one RocksDB of its own.

The store is written after the log and never synced by itself: its write-ahead log is off, and
what it holds is durable after `flush`. The position `applied` goes into every batch, so that
any crash leaves exactly the state at some position, and the log has the rest.

Invariants:
  * One column family, one batch per write: a crash cannot separate `applied` from its data.
  * A store is only created by `create`. `open` never makes one.
  * A short result is never the sign of an error: every read and every scan raises instead.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DbClosedError,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

__all__ = ["Store", "StoreBusy", "StoreDamaged", "StoreFull", "StoreResources"]

_APPLIED_KEY: Final = b"\0applied"
_POSITION: Final = struct.Struct("<Q")
_FULL: Final = ("No space left on device", "Disk quota exceeded", "File too large")


_STALLED: Final = "Write stall"


class StoreDamaged(Exception):
    """The store is missing, cannot be read, or failed before and has to be reopened."""


class StoreFull(Exception):
    """The disk is full. The store has to be closed and reopened when there is room again."""


class StoreBusy(Exception):
    """The store takes no write before it has flushed; nothing was written. Try again later."""


class StoreResources:
    """Memory that all stores of a process share."""

    def __init__(self, cache_bytes: int = 64 << 20, write_buffer_bytes: int = 64 << 20) -> None:
        self.cache = Cache(cache_bytes)
        self.write_buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            write_buffer_bytes, False, self.cache
        )


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Give RocksDB's errors, which are plain `Exception`s with a text, their classes."""
    try:
        yield
    except DbClosedError as error:
        raise StoreDamaged(f"{path} is closed") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        if any(text in str(error) for text in _FULL):
            raise StoreFull(f"{path}: {error}") from error
        if _STALLED in str(error):
            raise StoreBusy(f"{path}: {error}") from error
        raise StoreDamaged(f"{path}: {error}") from error


def _options(resources: StoreResources) -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(resources.cache)
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(True)

    options = Options(raw_mode=True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_manager(resources.write_buffers)
    options.set_write_buffer_size(4 << 20)
    # A write is refused when all of them wait for a flush.
    options.set_max_write_buffer_number(6)
    options.set_arena_block_size(64 << 10)
    options.set_max_open_files(64)
    options.set_manifest_preallocation_size(64 << 10)
    options.set_keep_log_file_num(1)
    options.set_max_log_file_size(256 << 10)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_paranoid_checks(True)
    return options


def _unsynced() -> WriteOptions:
    options = WriteOptions()
    # The stub calls it a method; it is an attribute.
    setattr(options, "disable_wal", True)  # noqa: B010
    # A write that waits for a flush holds the interpreter lock meanwhile, and on a full disk
    # it waits for ever: so it is refused instead.
    setattr(options, "no_slowdown", True)  # noqa: B010
    return options


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """An open store. One thread uses it, except that `flush` may run in another."""

    def __init__(self, path: Path, database: Rdict) -> None:
        self._path = path
        self._database = database
        self._unsynced = _unsynced()
        self._flushing = threading.Lock()
        self.applied = self._read_applied()
        """Every record of the log up to here is in the store, though perhaps not durably."""

    @classmethod
    def create(cls, path: Path, resources: StoreResources | None = None) -> Store:
        """Make the store of a partition that has never had one, durably.

        May be repeated after a crash, as long as nothing was written.

        Raises:
            StoreDamaged: There is a store already, and it holds something.
            StoreFull: There is no room.
        """
        new = not path.exists()
        if new:
            path.mkdir(parents=True, mode=0o700)
        store = cls._open(path, resources, create=True)
        if store.applied or store.scan(b"", limit=1):
            store.close()
            raise StoreDamaged(f"{path} is not empty")
        _sync_directory(path)
        _sync_directory(path.parent)
        return store

    @classmethod
    def open(cls, path: Path, resources: StoreResources | None = None) -> Store:
        """Open the store of a partition.

        Raises:
            StoreDamaged: It is missing, or cannot be read.
            StoreFull: There is no room for what RocksDB writes at opening.
        """
        # Looked for first: RocksDB leaves an empty directory behind when it finds nothing.
        if not (path / "CURRENT").exists():
            raise StoreDamaged(f"{path} holds no store")
        return cls._open(path, resources, create=False)

    @classmethod
    def _open(cls, path: Path, resources: StoreResources | None, *, create: bool) -> Store:
        options = _options(resources or StoreResources())
        options.create_if_missing(create)
        with _translated(path):
            database = Rdict(str(path), options, access_type=AccessType.read_write())
        try:
            return cls(path, database)
        except BaseException:
            database.close()
            raise

    def _read_applied(self) -> int:
        value = self.get(_APPLIED_KEY)
        if value is not None:
            position: int = _POSITION.unpack(value)[0]
            return position
        if self.scan(b"", limit=1):
            raise StoreDamaged(f"{self._path} does not say what was applied to it")
        return 0

    def get(self, key: bytes) -> bytes | None:
        """Return a value, or None when there is none."""
        with _translated(self._path):
            value: bytes | None = self._database.get(key)
        return value

    def scan(
        self, prefix: bytes, after: bytes = b"", limit: int = 1_000
    ) -> list[tuple[bytes, bytes]]:
        """Return keys that begin with `prefix`, and their values, in the order of the keys.

        Args:
            prefix: Keys that begin with a zero byte are the store's own and never returned.
            after: Only keys greater than this one: the last of the page before.
            limit: At most so many. Fewer means that there are no more.
        """
        start = max(prefix, after + b"\0" if after else b"", b"\1")
        options = ReadOptions()
        if (end := _successor(prefix)) is not None:
            options.set_iterate_upper_bound(end)
        found: list[tuple[bytes, bytes]] = []
        with _translated(self._path):
            iterator = self._database.iter(options)
            try:
                iterator.seek(start)
                while len(found) < limit and iterator.valid():
                    found.append((iterator.key(), iterator.value()))
                    iterator.next()
                # A damaged block ends an iteration without a word.
                iterator.status()
            finally:
                # A store cannot close while one of its iterators lives.
                del iterator
        return found

    def write(
        self,
        puts: list[tuple[bytes, bytes]],
        deletes: list[bytes],
        applied: int,
        cleared: Sequence[bytes] = (),
    ) -> None:
        """Change keys and set `applied`, in one step. A key is put or deleted, not both.

        Args:
            puts: Keys and their values.
            deletes: Keys.
            applied: The last record that this is of.
            cleared: Prefixes. All keys under them that were there before are deleted.
        """
        batch = WriteBatch(raw_mode=True)
        for prefix in cleared:
            end = _successor(prefix)
            assert end is not None, prefix
            batch.delete_range(prefix, end)
        put = batch.put
        for key, value in puts:
            put(key, value)
        for key in deletes:
            batch.delete(key)
        put(_APPLIED_KEY, _POSITION.pack(applied))
        with _translated(self._path):
            self._database.write(batch, self._unsynced)
        self.applied = applied

    def delete_range(self, first: bytes, last: bytes) -> None:
        """Delete every key from `first` up to, and without, `last`."""
        with _translated(self._path):
            self._database.delete_range(first, last, self._unsynced)

    def flush(self) -> int:
        """Make the store durable, and return the position up to which it surely is.

        Blocks; may be called in another thread while this one writes.

        Raises:
            StoreFull, StoreDamaged: Nothing is known to be durable. Close and reopen the store.
        """
        # Read first: what is written during the flush may or may not be in it.
        applied = self.applied
        with self._flushing, _translated(self._path):
            self._database.flush(wait=True)
        return applied

    def close(self) -> None:
        """Release the store. Blocks, also while another thread flushes it.

        Raises:
            StoreFull, StoreDamaged: What was not flushed could not be written at the end. The
                store is closed nevertheless.
        """
        with self._flushing, _translated(self._path):
            self._database.close()


def _successor(prefix: bytes) -> bytes | None:
    """Return the first key after all that begin with `prefix`. None when there is no such key."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])
