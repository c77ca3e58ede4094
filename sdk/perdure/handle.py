"""A handle: a reference to an object that looks like the object from afar.

Reading an attribute shows the state that the last answer brought, calling a method sends a
call. Everything else about a handle is a function of `perdure.durable`, because all public
names belong to the user's class.

Invariants:
  * No public name is defined here but `object_id`.
  * What is read is a copy: nobody can change a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import Any, Final, NoReturn, TypeVar, cast

from perdure import codec
from perdure.call import Call
from perdure.errors import NotLoaded, UnknownMethod
from perdure.frames import Kind
from perdure.hints import did_you_mean
from perdure.ids import ObjectKey, check_object_id
from perdure.objects import DurableObject, ObjectType, all_types, find_type, type_of
from perdure.remote import RemoteMethod, current_caller
from perdure.snapshot import Snapshot

__all__ = [
    "TIMEOUT_S",
    "Handle",
    "check_handle",
    "get_or_create",
    "make_handle",
    "reference",
    "remote_methods",
    "with_options",
]

TIMEOUT_S: Final = 30.0
"""How long a call is waited for unless `durable.options` says otherwise."""

_T = TypeVar("_T", bound=DurableObject)


class Handle:
    """A typed remote reference to one object. `get_or_create` and `durable.ref` make them.

    `isinstance(handle, Cart)` holds. Two handles are equal when their type and id are.
    """

    __slots__ = (
        "__weakref__",
        "_perdure_call_key",
        "_perdure_key",
        "_perdure_object_type",
        "_perdure_snapshot",
        "_perdure_timeout_s",
    )

    _perdure_key: ObjectKey
    _perdure_object_type: ObjectType | None
    _perdure_snapshot: Snapshot
    _perdure_call_key: str | None
    _perdure_timeout_s: float | None

    @property  # type: ignore[misc]  # `object` lets it be set, a handle does not.
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The user's class, so that `isinstance` says what a type checker says."""
        object_type = self._perdure_object_type
        return Handle if object_type is None else object_type.cls

    @property
    def object_id(self) -> str:
        """The object's id, as given to `get_or_create`."""
        return self._perdure_key.id

    def __getattr__(self, name: str) -> Any:
        # Asked only for names that are not in the slots above. Probes such as those of pickle
        # and IPython must not make calls, and memory-only attributes are not here.
        if name.startswith("_"):
            raise AttributeError(f"{self!r} has no {name!r}: names with _ stay inside the object")
        object_type = _type_of(self)
        remote = object_type.remote.get(name)
        if remote is not None:
            return MethodType(remote, self)
        data = self._perdure_snapshot.values.get(name)
        if data is not None:
            return codec.decode(data)
        return _read_other(self, object_type, name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"{self!r}.{name} cannot be set from outside: state changes in methods only"
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{self!r}.{name} cannot be deleted from outside: state changes in methods only"
        )

    def __dir__(self) -> list[str]:
        """List what can be called and read."""
        object_type = _type_of(self)
        snapshot = self._perdure_snapshot
        names = {*object_type.remote, *object_type.class_attributes, *snapshot.values}
        return sorted(names | snapshot.left_out | {"object_id"})

    def __eq__(self, other: object) -> bool:
        if type(other) is not Handle:
            return NotImplemented
        return self._perdure_key == other._perdure_key

    def __hash__(self) -> int:
        return hash(self._perdure_key)

    def __repr__(self) -> str:
        return f"<{self._perdure_key.type} {self._perdure_key.id!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return reference, tuple(self._perdure_key)

    def __copy__(self) -> Handle:
        return _make(
            self._perdure_key,
            self._perdure_object_type,
            self._perdure_snapshot.copy(),
            self._perdure_call_key,
            self._perdure_timeout_s,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        return reference(*self._perdure_key)


def make_handle(object_type: ObjectType, object_id: str) -> Handle:
    """Make a handle without a snapshot to an object, which need not exist.

    Args:
        object_type: The object's type.
        object_id: Its id, which has been checked.
    """
    return _make(ObjectKey(object_type.name, object_id), object_type, Snapshot())


def with_options(handle: Handle, call_key: str | None, timeout_s: float | None) -> Handle:
    """Make another handle to the same object, with the same snapshot.

    Args:
        handle: Any handle to the object.
        call_key: The idempotency key of the calls made through the new handle.
        timeout_s: How long their answers are waited for; None for ever.
    """
    return _make(
        handle._perdure_key,
        handle._perdure_object_type,
        handle._perdure_snapshot,
        call_key,
        timeout_s,
    )


def reference(type_name: str, object_id: str) -> Handle:
    """Make a handle from a reference: an object's type name and id, and nothing else.

    A type that this process does not know is no error before the handle is used.
    """
    return _from_key(ObjectKey(type_name, object_id))


def check_handle(value: object, user: str) -> Handle:
    """Return a value that is a handle.

    Raises:
        TypeError: It is something else. `user` names the function that wants a handle.
    """
    if type(value) is not Handle:
        raise TypeError(f"{user} takes a handle, not {type(value).__name__}")
    return value


def remote_methods(handle: Handle) -> Mapping[str, RemoteMethod]:
    """Return the methods that can be called through a handle, by name.

    Raises:
        UnknownType: This process does not know the object's type.
    """
    return _type_of(handle).remote


def get_or_create(cls: type[_T], object_id: str) -> Call[_T]:
    """Send the request that makes an object unless it is there; see `DurableObject`."""
    object_type = type_of(cls)
    handle = make_handle(object_type, check_object_id(object_id))
    snapshot = handle._perdure_snapshot
    future = current_caller().call(
        handle._perdure_key, Kind.GET_OR_CREATE, timeout_s=TIMEOUT_S, have=snapshot.have()
    )
    typed = cast("_T", handle)
    label = f"{object_type.name}.get_or_create()"
    return Call(label, future, lambda _reply: typed, snapshot.take)


def _make(
    key: ObjectKey,
    object_type: ObjectType | None,
    snapshot: Snapshot,
    call_key: str | None = None,
    timeout_s: float | None = TIMEOUT_S,
) -> Handle:
    handle = Handle()
    _set(handle, "_perdure_key", key)
    _set(handle, "_perdure_object_type", object_type)
    _set(handle, "_perdure_snapshot", snapshot)
    _set(handle, "_perdure_call_key", call_key)
    _set(handle, "_perdure_timeout_s", timeout_s)
    return handle


_set: Final = object.__setattr__


def _type_of(handle: Handle) -> ObjectType:
    """Return the type of a handle; one that came as a reference may not know it yet."""
    object_type = handle._perdure_object_type
    if object_type is None:
        object_type = find_type(handle._perdure_key.type)
        _set(handle, "_perdure_object_type", object_type)
    return object_type


def _read_other(handle: Handle, object_type: ObjectType, name: str) -> Any:
    """Return an attribute that the snapshot has no value for."""
    snapshot = handle._perdure_snapshot
    if name in snapshot.left_out:
        raise NotLoaded(str(handle._perdure_key), name)
    if name in object_type.class_attributes:
        attribute = object_type.class_attributes[name]
        if not hasattr(type(attribute), "__get__"):
            return attribute
        if not isinstance(attribute, (staticmethod, classmethod, FunctionType)):
            return _compute(handle, object_type, name)
    elif not snapshot.loaded:
        raise NotLoaded(str(handle._perdure_key), name)
    known = [*object_type.remote, *object_type.class_attributes, *snapshot.values]
    hint = f" and no attribute of that name{did_you_mean(name, known)}"
    raise UnknownMethod(object_type.name, name, hint)


def _compute(handle: Handle, object_type: ObjectType, name: str) -> Any:
    """Compute a property here, on a copy of the snapshot."""
    snapshot = handle._perdure_snapshot
    if not snapshot.loaded:
        raise NotLoaded(str(handle._perdure_key), name)
    copy = object_type.cls.__new__(object_type.cls)
    copy._perdure_id = handle._perdure_key.id
    vars(copy).update({key: codec.decode(data) for key, data in snapshot.values.items()})
    try:
        return getattr(copy, name)
    except AttributeError as error:
        if error.name in snapshot.left_out and error.obj is copy:
            raise NotLoaded(str(handle._perdure_key), error.name or name) from None
        raise


def _key_of(handle: Handle) -> ObjectKey:
    return handle._perdure_key


def _from_key(key: ObjectKey) -> Handle:
    return _make(key, all_types().get(key.type), Snapshot())


codec.register_reference(Handle, _key_of, _from_key)
