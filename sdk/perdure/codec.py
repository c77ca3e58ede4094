"""Values as bytes: MessagePack, with extensions for what MessagePack does not have.

The list of types is closed and exact. A value comes back equal, of the same type and in the
same order, or it is refused: a subclass is never written as its base. docs/values.md describes
the format for other languages.

Why it is safe to let msgspec write. It knows many types that MessagePack has not, and writes what
would come back as another one: a tuple as a list, a set as a list, a date as text, an instance as
a dict, a subclass as its base. So it never gets to see a value as it is: `lowering.lower` walks
the value, compares exact types, leaves alone what MessagePack has and puts an `Ext` in the place
of everything else. msgspec is then given nothing but None, bool, int, float, str, bytes, list,
dict and Ext, with dict keys that are exact scalars. Two things are left to it: it refuses text
with a lone surrogate, and ints beyond 64 bits. Only then a second walk looks for these, and
puts an `Ext` in their place (the first would have to compare every int).

A list or dict whose items are all scalars is left as it is and not copied. So the walk costs
2.3 us for a plain state of 300 bytes with five containers, and packing it 0.3 us. Reading costs
1.3 us. Extensions cost more (2 us for the 31 bytes of a datetime and a tuple): msgspec calls
Python code for each, and reads the bytes a second time to find out whether one of them was a key
of a map, which has to be a scalar. An int beyond 64 bits doubles what packing costs.

What reading hostile bytes can cost. A decoded value is no larger than a small multiple of its
bytes. msgspec stops where the interpreter stops C code that calls itself: at 1,000 levels in
Python 3.11 (`sys.getrecursionlimit()`), at up to 10,000 in 3.12 and 3.13, before the stack ends
from 3.14 on. A level takes 290 bytes of the C stack: 10,000 of them have room in the 8 MiB of a
usual thread. What a hook decodes lies on the same stack. So the bytes that could begin a
container or an extension are counted first, in C. With no more of them than there may be levels
(most small values) the hook decodes what it is given at once.
Otherwise msgspec keeps extensions as they are, and they are decoded afterwards, from the outside
to the inside, by Python code that counts levels: nothing lies on the C stack below msgspec's own
levels.

Of MessagePack's timestamps (extension -1) msgspec makes datetimes without asking, and has no
setting for that. Bytes that could hold one are therefore read in the second way, too, where what
msgspec keeps can be told from what it makes: a datetime is refused.

Invariants:
  * `decode(encode(value))` equals `value`, with the same types all the way down.
  * Equal values of equal types give equal bytes. The order of a dict is part of its value, the
    order of a set is not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from perdure import instances, lifting, lowering
from perdure.extensions import DEPTH_MAX
from perdure.ids import ObjectKey
from perdure.lifting import TooDeep
from perdure.lowering import SCALARS, Refused, TooManyLevels, lower, pack

__all__ = ["NotEncodable", "TooDeep", "decode", "encode", "register_reference"]


class NotEncodable(Exception):
    """A value cannot be written without changing it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        """Where, seen from the value given: `['items'][3].callback`; empty for itself."""
        self.problem = problem
        """What is there: a type's name, or a sentence."""

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


def encode(value: object) -> bytes:
    """Return a value's bytes.

    Raises:
        NotEncodable: It holds something that cannot be written as it is.
    """
    try:
        return pack(value if type(value) in SCALARS else lower(value, DEPTH_MAX))
    except TooManyLevels:
        raise NotEncodable("", f"more than {DEPTH_MAX} containers inside one another") from None
    except Refused as refused:
        problem = refused.problem
    # Only now, for the message: a walk that kept the path would be much slower.
    raise NotEncodable(*_locate(value, problem)) from None


def decode(data: bytes) -> Any:
    """Return the value that `encode` was given.

    Raises:
        BadPayload: The bytes are no value, or one that is too deep (`TooDeep`).
        UnknownType: An instance of a class that nobody registered, or whose fields have changed.
    """
    return lifting.read(data)


def register_reference(
    cls: type, to_key: Callable[[Any], ObjectKey], from_key: Callable[[ObjectKey], Any]
) -> None:
    """Let instances of exactly `cls` travel as references; `from_key` makes what comes back."""
    lowering.to_keys[cls] = to_key
    lifting.from_key[:] = [from_key]


def _locate(value: object, problem: str) -> tuple[str, str]:
    """Return the path of the first part that cannot be written, and what is wrong with it."""
    path = ""
    parts: Iterator[tuple[str, object]] = _parts(value)
    while (part := next(parts, None)) is not None:
        step, content = part
        try:
            pack(lower(content, DEPTH_MAX))
        except Refused as refused:
            path, problem, parts = path + step, refused.problem, _parts(content)
    return path, problem


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """Yield the parts of a container, each with the step of a path that leads there."""
    if isinstance(value, dict):
        for key, content in value.items():
            label = f"{key!r:.80}" if type(key) in (str, int, bytes) else type(key).__qualname__
            yield f"[{label}]", content
            yield f"[key {label}]", key
    elif isinstance(value, list | tuple | deque):
        for index, content in enumerate(value):
            yield f"[{index}]", content
    elif isinstance(value, set | frozenset):
        for content in value:
            yield "{...}", content
    else:
        yield from ((f".{name}", content) for name, content in instances.parts_of(value).items())
