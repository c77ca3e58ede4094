"""Durable objects as their authors write them, and the types that are registered.

Invariants:
  * A type is known by its name, never by its module: the latest definition counts.
  * What a class says about itself is read once, at registration.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from perdure.errors import UnknownMethod, UnknownType
from perdure.hints import did_you_mean
from perdure.ids import check_object_id
from perdure.methods import Method

if TYPE_CHECKING:
    from perdure.call import Call
    from perdure.context import Turn
    from perdure.remote import RemoteMethod

__all__ = [
    "FUNCTION",
    "RESERVED",
    "RESERVED_FOR_CLASSES",
    "STATE_BYTES_MAX",
    "DurableObject",
    "Method",
    "ObjectType",
    "Persist",
    "add_type",
    "all_types",
    "find_type",
    "registered_types",
    "type_of",
]

STATE_BYTES_MAX: Final = 4 * 1024 * 1024
"""The default limit of one object's encoded state. Beyond it a call fails, its changes undone."""

FUNCTION: Final = "function:"
"""What the names of types begin with that are durable functions. No class may have such a name."""

RESERVED: Final = ("save", "get_or_create", "object_id")
"""What `DurableObject` itself has. No class and no object may have it otherwise."""

RESERVED_FOR_CLASSES: Final = ("on_activate", "migrate", "state_version")
"""What a class may say about itself. No object has it as state, and nobody can call it."""

Persist = Literal["always", "on_save"]


class DurableObject:
    """The base of classes whose instances outlive every process.

    Decorate a subclass with `@durable.object`. Its public attributes are its state; its public
    methods can be called through the handle that `get_or_create` returns.
    """

    __slots__ = ("__dict__", "__weakref__", "_perdure_id", "_perdure_turn")

    _perdure_type: ClassVar[ObjectType]
    _perdure_id: str
    _perdure_turn: Turn | None

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """Make an instance that has no id and is in no call yet."""
        instance = super().__new__(cls)
        instance._perdure_id = ""
        instance._perdure_turn = None
        return instance

    def __init__(self, object_id: str) -> None:
        """Set the object's id: to be called with the id that `__init__` was given.

        Raises:
            ValueError: It is another id than the object's, or not a possible one.
        """
        if self._perdure_id not in ("", object_id):
            raise ValueError(
                f"super().__init__ of {type(self).__name__} takes the id "
                f"{self._perdure_id!r}, not {object_id!r}"
            )
        self._perdure_id = check_object_id(object_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._perdure_id!r}, inside>"

    @property
    def object_id(self) -> str:
        """The object's id, as given to `get_or_create`."""
        return self._perdure_id

    @classmethod
    def get_or_create(cls, object_id: str) -> Call[Self]:
        """Return a handle to the object, which is made first if it is not there.

        Sent at the call, like every call. When it is awaited the object exists durably, and
        the handle has a snapshot of its state.

        Args:
            object_id: Not empty, at most 512 bytes of UTF-8, without NUL.

        Raises:
            TypeError: The class is not decorated, or the id is not exactly a `str`.
            BadObjectId: The id is not possible.
        """
        from perdure.handle import get_or_create

        return get_or_create(cls, object_id)

    async def save(self) -> None:
        """Make a commit point: exceptions after it do not undo what was before it.

        Returns as soon as the commit is ordered and does not wait for the disk; nothing that
        depends on it leaves the node before it is durable.

        Raises:
            RuntimeError: The object is not in a call.
        """
        turn = self._perdure_turn
        if turn is None:
            raise RuntimeError(
                f"save() of {type(self).__name__} outside of a call: "
                f"state changes in methods that are called through a handle"
            )
        turn.save()


@dataclass(frozen=True, slots=True, eq=False)
class ObjectType:
    """A registered class, and what was read from it."""

    name: str
    cls: type[DurableObject]
    methods: Mapping[str, Method]
    """What can be called, by name."""
    persist: Persist
    max_state_bytes: int
    state_version: int
    has_on_activate: bool
    class_attributes: Mapping[str, Any]
    """What else of public name the class defines: constants, properties."""
    remote: Mapping[str, RemoteMethod]
    """The methods as handles show them."""
    origin: str
    """The file that defines the class, or its module where there is none."""
    retries: int = 0
    """How many times a method that raises is run again before that is the answer."""
    made_by_calls: bool = False
    """An object that is not there is made by the first call."""

    @property
    def is_function(self) -> bool:
        """Whether it is a durable function: its objects have no state and need not be made."""
        return self.name.startswith(FUNCTION)

    def new(self, object_id: str) -> DurableObject:
        """Make an instance by running `__init__`: a new object, or the source of defaults."""
        instance = self.cls.__new__(self.cls, object_id)
        instance._perdure_id = object_id
        instance.__init__(object_id)  # type: ignore[misc]  # As type(...)() does, but after the id.
        return instance

    def method(self, name: str) -> Method:
        """Return a method by its name.

        Raises:
            UnknownMethod: There is none that can be called.
        """
        method = self.methods.get(name)
        if method is None:
            raise UnknownMethod(self.name, name, did_you_mean(name, list(self.methods)))
        return method

    def migrate(self, state: dict[str, Any], version: int) -> dict[str, Any]:
        """Return stored state as this version of the class wants it.

        Raises:
            ValueError: The state was written by a later version of the class.
            TypeError: The class's `migrate` returned no dict.
        """
        if version == self.state_version:
            return state
        if version > self.state_version:
            raise ValueError(
                f"the stored state of a {self.name} has version {version}, "
                f"this code knows versions up to {self.state_version}"
            )
        migrate = getattr(self.cls, "migrate", None)
        if migrate is None:
            return state
        migrated = migrate(state, version)
        if type(migrated) is not dict:
            raise TypeError(
                f"{self.name}.migrate returns the state as a dict, not {type(migrated).__name__}"
            )
        return migrated

    def describe(self) -> list[tuple[str, str, bool]]:
        """Return the methods as rows: name, signature as text, whether it only reads."""
        return [
            (method.name, method.describe(), method.is_shared)
            for _, method in sorted(self.methods.items())
        ]


registered_types: Final[dict[str, ObjectType]] = {}
"""By name. Only `register` changes it: for those who look at it for every call."""


def find_type(name: str) -> ObjectType:
    """Return the registered type of that name.

    Raises:
        UnknownType: There is none.
    """
    found = registered_types.get(name)
    if found is None:
        raise UnknownType(name, did_you_mean(name, list(registered_types)))
    return found


def all_types() -> Mapping[str, ObjectType]:
    """Return all registered types by name; the view follows later registrations."""
    return types.MappingProxyType(registered_types)


def type_of(cls: type[DurableObject]) -> ObjectType:
    """Return the type that a class was registered as.

    Raises:
        TypeError: It is not decorated, be it that a class it inherits from is.
    """
    # A subclass is a type of its own once decorated: an inherited mark does not count.
    found = vars(cls).get("_perdure_type") if isinstance(cls, type) else None
    if not isinstance(found, ObjectType):
        name = getattr(cls, "__name__", repr(cls))
        raise TypeError(f"{name} is no durable object: decorate the class with @durable.object")
    return found


def add_type(object_type: ObjectType) -> None:
    """Register a type, in place of an earlier definition from the same file.

    Raises:
        TypeError: Another file defines a type of that name.
    """
    earlier = registered_types.get(object_type.name)
    if earlier is not None and earlier.origin != object_type.origin:
        raise TypeError(
            f"two types are named {object_type.name!r}: {earlier.cls.__qualname__} in "
            f"{earlier.origin} and {object_type.cls.__qualname__} in {object_type.origin}; "
            f"give one another name with @durable.object(name=...)"
        )
    object_type.cls._perdure_type = object_type
    registered_types[object_type.name] = object_type
