"""What a partition's store promises."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure_node.store import Store, StoreDamaged, StoreResources


@pytest.fixture(scope="module")
def resources() -> StoreResources:
    return StoreResources()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "partitions" / "3"


@pytest.fixture
def store(path: Path, resources: StoreResources) -> Iterator[Store]:
    store = Store.create(path, resources)
    yield store
    store.close()


def reopened(store: Store, path: Path) -> Store:
    store.close()
    return Store.open(path)


def test_a_store_is_never_made_by_opening_it(path: Path) -> None:
    with pytest.raises(StoreDamaged, match="holds no store"):
        Store.open(path)

    assert not path.exists()


def test_an_empty_directory_is_no_store(path: Path) -> None:
    path.mkdir(parents=True)

    with pytest.raises(StoreDamaged, match="holds no store"):
        Store.open(path)


def test_a_new_store_is_empty_and_nothing_was_applied_to_it(store: Store) -> None:
    assert store.applied == 0
    assert store.scan(b"") == []


def test_creating_may_be_repeated_until_something_is_in_the_store(path: Path) -> None:
    Store.create(path).close()
    store = Store.create(path)
    store.write([(b"k", b"v")], [], 1)
    store.close()

    with pytest.raises(StoreDamaged, match="is not empty"):
        Store.create(path)


def test_a_store_that_nothing_but_records_were_applied_to_is_not_new(path: Path) -> None:
    store = Store.create(path)
    store.write([], [], 1)
    store.close()

    with pytest.raises(StoreDamaged, match="is not empty"):
        Store.create(path)


def test_a_store_is_open_once(store: Store, path: Path) -> None:
    with pytest.raises(StoreDamaged, match="lock"):
        Store.open(path)


def test_values_are_kept_over_closing(path: Path) -> None:
    store = Store.create(path)
    store.write([(b"a", b"1"), (b"b", b"")], [], 7)
    store = reopened(store, path)

    assert (store.applied, store.get(b"a"), store.get(b"b"), store.get(b"c")) == (
        7,
        b"1",
        b"",
        None,
    )
    store.close()


def test_puts_and_deletes_go_in_one_step(store: Store) -> None:
    store.write([(b"a", b"1"), (b"b", b"2")], [], 1)
    store.write([(b"c", b"3")], [b"a", b"never was"], 2)

    assert store.scan(b"") == [(b"b", b"2"), (b"c", b"3")]


def test_a_scan_takes_what_begins_with_its_prefix_in_order(store: Store) -> None:
    store.write([(key, b"-") for key in (b"oz", b"o", b"p", b"n\xff", b"oa\0", b"oa")], [], 1)

    assert [key for key, _ in store.scan(b"o")] == [b"o", b"oa", b"oa\0", b"oz"]


def test_a_scan_goes_on_after_a_key(store: Store) -> None:
    store.write([(b"o%d" % number, b"-") for number in range(10)], [], 1)

    first = store.scan(b"o", limit=4)
    second = store.scan(b"o", after=first[-1][0], limit=4)
    third = store.scan(b"o", after=second[-1][0], limit=4)

    assert [len(first), len(second), len(third)] == [4, 4, 2]
    assert [key for key, _ in first + second + third] == [b"o%d" % n for n in range(10)]


def test_a_scan_from_before_its_prefix_begins_with_the_prefix(store: Store) -> None:
    store.write([(b"a", b""), (b"b", b""), (b"c", b"")], [], 1)

    assert store.scan(b"b", after=b"a") == [(b"b", b"")]
    assert store.scan(b"b", after=b"c") == []


def test_the_last_possible_prefix_can_be_scanned(store: Store) -> None:
    store.write([(b"\xff\xff\xff", b"1"), (b"\xfe", b"2")], [], 1)

    assert store.scan(b"\xff\xff") == [(b"\xff\xff\xff", b"1")]


def test_the_stores_own_key_is_never_seen(store: Store) -> None:
    store.write([], [], 9)

    assert store.scan(b"") == []


def test_a_range_is_deleted_without_its_end(store: Store) -> None:
    store.write([(b"s%d" % number, b"-") for number in range(6)], [], 1)
    store.delete_range(b"s1", b"s4")

    assert [key for key, _ in store.scan(b"s")] == [b"s0", b"s4", b"s5"]


def test_a_closed_store_says_so(path: Path) -> None:
    store = Store.create(path)
    store.scan(b"")
    store.close()

    with pytest.raises(StoreDamaged, match="is closed"):
        store.get(b"a")


def test_closing_releases_the_store_after_many_scans(path: Path) -> None:
    store = Store.create(path)
    store.write([(b"a%d" % number, b"-") for number in range(100)], [], 1)
    for number in range(20):
        store.scan(b"a", limit=number)
    store.close()

    Store.open(path).close()


def test_a_flush_tells_the_position_that_was_there_when_it_began(store: Store) -> None:
    store.write([(b"a", b"1")], [], 5)

    assert store.flush() == 5


def test_writes_go_on_during_a_flush_in_another_thread(store: Store) -> None:
    flushed: list[int] = []
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            flushed.append(store.flush())

    thread = threading.Thread(target=flush)
    thread.start()
    for applied in range(1, 2_001):
        store.write([(b"k%d" % (applied % 50), b"%d" % applied)], [], applied)
    stop.set()
    thread.join()

    assert flushed == sorted(flushed)
    assert store.flush() == 2_000
    assert len(store.scan(b"k")) == 50


def test_closing_waits_for_a_flush_in_another_thread(path: Path) -> None:
    for number in range(5):
        store = Store.create(path.with_name(str(number)))
        store.write([(b"k", os.urandom(3 << 20))], [], 1)
        begun = threading.Event()

        def flush(store: Store = store, begun: threading.Event = begun) -> int:
            begun.set()
            return store.flush()

        with ThreadPoolExecutor(1) as pool:
            flushed = pool.submit(flush)
            begun.wait()
            store.close()
            with contextlib.suppress(StoreDamaged):
                # Closed before it began.
                assert flushed.result() == 1


@pytest.mark.parametrize("flushes", [1, 2, 5, 9])
def test_a_process_that_is_killed_leaves_one_position_and_its_state(
    flushes: int, path: Path
) -> None:
    """Every batch sets all keys to its own number: a mixture would show. It dies right after a
    flush during which others were writing.
    """
    program = f"""
import contextlib, os, signal, threading
from pathlib import Path
from perdure_node.store import Store, StoreBusy

store = Store.create(Path({str(path)!r}))

def flush():
    for _ in range({flushes}):
        flushed = store.flush()
    os.write(1, b"%d" % flushed)
    os.kill(os.getpid(), signal.SIGKILL)

applied = 0
while True:
    if applied == 1:
        threading.Thread(target=flush).start()
    rows = [(b"k%d" % n, b"%d" % (applied + 1)) for n in range(20)]
    with contextlib.suppress(StoreBusy):
        store.write(rows, [], applied + 1)
        applied += 1
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    flushed = int(done.stdout)
    store = Store.open(path)

    assert store.applied >= flushed
    keys = sorted(b"k%d" % n for n in range(20)) if store.applied else []
    assert store.scan(b"k") == [(key, b"%d" % store.applied) for key in keys]
    store.close()


@pytest.mark.parametrize("changes", [1, 2, 3])
def test_a_kill_between_any_two_changes_leaves_one_position_and_its_state(
    changes: int, path: Path
) -> None:
    """RocksDB is made to sync every change, however it is made, and the process dies right after
    one of them. A write that took two would be cut in half.
    """
    program = f"""
import os, signal
from pathlib import Path
import rocksdict

class Database:
    def __init__(self, *arguments, **options):
        self.database = Rdict(*arguments, **options)
        self.changes = 0

    def __getattr__(self, name):
        def call(*arguments, **options):
            before = self.database.latest_sequence_number()
            result = getattr(self.database, name)(*arguments, **options)
            if self.database.latest_sequence_number() > before:
                self.database.flush(wait=True)
                self.changes += 1
                if self.changes == {changes}:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call

Rdict, rocksdict.Rdict = rocksdict.Rdict, Database
from perdure_node.store import Store

store = Store.create(Path({str(path)!r}))
for applied in range(1, {changes} + 1):
    rows = [(key, b"%d" % applied) for key in (b"k", b"l", b"new%d" % applied)]
    store.write(rows, [b"new%d" % (applied - 1)], applied)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = Store.open(path)

    assert store.applied == changes, "every write is one change"
    keys = [b"k", b"l", b"new%d" % changes]
    assert store.scan(b"") == [(key, b"%d" % changes) for key in keys]
    store.close()


def test_stores_of_a_process_share_their_memory(tmp_path: Path) -> None:
    resources = StoreResources(cache_bytes=4 << 20, write_buffer_bytes=4 << 20)
    stores = [Store.create(tmp_path / str(number), resources) for number in range(4)]
    for store in stores:
        store.write([(os.urandom(8), os.urandom(1_000)) for _ in range(500)], [], 1)

    assert resources.write_buffers.get_usage() > 4 * 500 * 1_000
    for store in stores:
        store.close()


KEYS = st.binary(min_size=1, max_size=4).filter(lambda key: key[0] != 0)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.dictionaries(KEYS, st.binary(max_size=20), max_size=5)),
        st.tuples(st.just("delete"), st.lists(KEYS, max_size=5)),
        st.tuples(st.just("range"), st.tuples(KEYS, KEYS)),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(steps=STEPS, prefix=st.binary(max_size=2), limit=st.integers(1, 5))
def test_a_store_is_a_sorted_dict(
    steps: list[tuple[str, object]],
    prefix: bytes,
    limit: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("store") / "0"
    store = Store.create(path)
    model: dict[bytes, bytes] = {}
    for applied, (step, argument) in enumerate(steps, start=1):
        if step == "put":
            assert isinstance(argument, dict)
            store.write(list(argument.items()), [], applied)
            model.update(argument)
        elif step == "delete":
            assert isinstance(argument, list)
            store.write([], argument, applied)
            for key in argument:
                model.pop(key, None)
        elif step == "range":
            first, last = sorted(argument)  # type: ignore[call-overload]
            store.delete_range(first, last)
            model = {key: value for key, value in model.items() if not first <= key < last}
        elif step == "flush":
            store.flush()
        else:
            store = reopened(store, path)
    matching = [(key, model[key]) for key in sorted(model) if key.startswith(prefix)]
    scanned: list[tuple[bytes, bytes]] = []
    while page := store.scan(prefix, after=scanned[-1][0] if scanned else b"", limit=limit):
        scanned += page
    store.close()

    assert scanned == matching
