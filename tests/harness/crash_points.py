"""Named points at which a node process kills itself: `arm` one, before the node is made.

Nothing of this is in the product: what the points are at is wrapped, in the process that is to
die, and only the point that is armed. A point whose method is gone is an error at once. Compiled
code calls its own methods past whatever wraps them: there a node dies where it meets the world.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

AT_WORK: Final = {
    "a message has come": ("node.Node.receive", "before"),
    "a call was taken in": ("core.partition.Partition.call_arrived", "after"),
    "before a method runs": ("execution.Executor.run", "before"),
    "after a method has run": ("core.partition.Partition.method_returned", "before"),
    "after a commit": ("core.partition.Partition.method_returned", "after"),
    "before a record is made": ("host.Host.append", "before"),
    "after a record is made": ("host.Host.append", "after"),
    "before a group is written": ("journal.writer.write_at", "before"),
    "in the middle of a group": ("journal.writer.write_at", "half"),
    "before a sync": ("journal.writer.write_at", "after"),
    "after a sync": ("journal.mark.MarkFile.write", "before"),
    "after the mark": ("journal.mark.MarkFile.write", "after"),
    "before answers leave": ("node.Node._let_out", "before"),
    "after answers have left": ("node.Node._let_out", "after"),
    "before a step is scheduled": ("core.journalled.Journalled.step", "before"),
    "after a step is scheduled": ("core.journalled.Journalled.step", "after"),
    "before a step is made": ("carrier.Carrier.service", "before"),
    "after a step was made": ("steps.Steps._done", "before"),
    "after a step was heard of": ("steps.Steps._done", "after"),
    "before a save": ("turn.MethodTurn.save", "before"),
    "after a save": ("turn.MethodTurn.save", "after"),
    "after a save is noted": ("core.recorder.Recorder.commit_progress", "after"),
    "after a timer is set": ("turn.MethodTurn.set_timer", "after"),
    "before timers fire": ("core.partition.Partition.fire", "before"),
    "after timers fired": ("core.partition.Partition.fire", "after"),
    "after a firing has ended": ("core.recorder.Recorder.commit_firing", "after"),
    "before a call leaves the partition": ("carrier.Carrier.send", "before"),
    "after a call has left the partition": ("carrier.Carrier.send", "after"),
    "before a delivery is noted": ("core.journalled.Journalled.delivered", "before"),
    "after a delivery is noted": ("core.journalled.Journalled.delivered", "after"),
    "before a delivery is confirmed": ("carrier.Carrier.confirm", "before"),
    "after a delivery is confirmed": ("carrier.Carrier.confirm", "after"),
    "before a store is written": ("store.Store.write", "before"),
    "after a store is written": ("store.Store.write", "after"),
    "before a store is flushed": ("store.Store.flush", "before"),
    "after a store is flushed": ("store.Store.flush", "after"),
}
"""Of a node that has calls to do: where, and on which side of it."""

IN_RECOVERY: Final = {
    "before the journal is read": ("journal.node_journal.NodeJournal.open", "before"),
    "after the journal is read": ("journal.node_journal.NodeJournal.open", "after"),
    "before the epoch rises": ("identity.Identity.rise_above", "before"),
    "after the epoch rose": ("identity.Identity.rise_above", "after"),
    "before a partition is read": ("host.Host.__init__", "before"),
    "after a partition is claimed": ("host.Host.__init__", "after"),
    "before a call goes on": ("core.journalled.Journalled.resume", "before"),
    "after a call goes on": ("core.journalled.Journalled.resume", "after"),
    "before calls leave again": ("carrier.Carrier.open", "before"),
    "after calls leave again": ("carrier.Carrier.open", "after"),
}
"""Of a node that starts after a crash."""


def wrappable(points: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return those of the points that are not in compiled modules."""
    return [name for name, (where, _) in points.items() if not is_compiled(_held(where)[0])]


def die() -> None:
    """End this process with kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # In a thread of its own the signal may come a moment later.


def arm(point: str, count: int) -> None:
    """Have this process die when it comes by a point for the `count`-th time."""
    where, side = {**AT_WORK, **IN_RECOVERY}[point]
    left = count

    def pass_by() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if side == "after":
            result = original(*args, **kwargs)
            if pass_by():
                die()
            return result
        if pass_by():
            if side == "half":
                descriptor, data, offset = args
                original(descriptor, data[: len(data) // 2], offset)
            die()
        return original(*args, **kwargs)

    wrap(where, around)


def wrap(where: str, around: Callable[..., Any]) -> None:
    """Have `around(original, ...)` called in place of a function or method of the node."""
    module, holder = _held(where)
    assert not is_compiled(module), f"nobody would notice that {where} is wrapped"
    name = where.rpartition(".")[2]
    found = vars(holder)[name]
    original = found.__func__ if isinstance(found, staticmethod | classmethod) else found

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    kept = type(found)(wrapped) if original is not found else wrapped
    setattr(holder, name, kept)


def _held(where: str) -> tuple[ModuleType, Any]:
    """Return a module, and in it what has the function or method: a class, or the module."""
    path, _, _ = where.rpartition(".")
    try:
        module = importlib.import_module(f"perdure_node.{path}")
    except ModuleNotFoundError:
        path, _, class_name = path.rpartition(".")
        module = importlib.import_module(f"perdure_node.{path}")
        return module, getattr(module, class_name)
    return module, module


def is_compiled(module: ModuleType) -> bool:
    """Tell whether what is in a module calls itself past everything that wraps it."""
    return not str(module.__file__).endswith(".py")
