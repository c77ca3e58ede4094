"""What a class must be like to become a type of durable object."""

from __future__ import annotations

import sys
import types

import pytest
from harness.known_classes import known_classes

from perdure import DurableObject, UnknownMethod, UnknownType, durable
from perdure.objects import STATE_BYTES_MAX, all_types, find_type, type_of


def module(name: str, source: str, file: str) -> types.ModuleType:
    """Run source as a module of its own file, as an import does."""
    made = types.ModuleType(name)
    made.__file__ = file
    sys.modules[name] = made
    exec(compile(source, file, "exec"), vars(made))
    return made


@pytest.fixture
def loaded():
    names = []

    def load(name: str, source: str, file: str) -> types.ModuleType:
        names.append(name)
        return module(name, source, file)

    with known_classes():
        yield load
    for name in names:
        sys.modules.pop(name, None)


PLAIN = """
from perdure import DurableObject, durable

@durable.object
class {name}(DurableObject):
    marker = {marker!r}
"""


def test_a_type_has_the_name_of_its_class_or_the_one_it_is_given():
    @durable.object
    class RegPlain(DurableObject):
        pass

    @durable.object(name="Reg.Other")
    class RegNamed(DurableObject):
        pass

    assert find_type("RegPlain").cls is RegPlain
    assert find_type("Reg.Other").cls is RegNamed
    assert type_of(RegNamed).name == "Reg.Other"
    assert "Reg.Other" in all_types()


def test_options_without_values_are_the_defaults():
    @durable.object()
    class RegDefaults(DurableObject):
        pass

    found = type_of(RegDefaults)
    assert (found.persist, found.max_state_bytes, found.state_version, found.has_on_activate) == (
        "always",
        STATE_BYTES_MAX,
        1,
        False,
    )


def test_options_are_kept():
    @durable.object(persist="on_save", max_state_bytes=1000)
    class RegOptions(DurableObject):
        state_version = 3

        async def on_activate(self):
            pass

    found = type_of(RegOptions)
    assert (found.persist, found.max_state_bytes, found.state_version, found.has_on_activate) == (
        "on_save",
        1000,
        3,
        True,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"persist": "never"},
        {"max_state_bytes": 0},
        {"max_state_bytes": True},
        {"name": ""},
        {"name": "two words"},
        {"name": "x" * 129},
        {"name": "nul\0"},
    ],
)
def test_an_impossible_option_is_a_value_error(options):
    class RegImpossible(DurableObject):
        pass

    with pytest.raises(ValueError, match=r".+"):
        durable.object(**options)(RegImpossible)


def test_the_same_class_defined_again_takes_the_place_of_the_old_one(loaded, tmp_path):
    file = str(tmp_path / "cells.py")
    loaded("reg_cells", PLAIN.format(name="RegCell", marker="old"), file)
    again = loaded("reg_cells", PLAIN.format(name="RegCell", marker="new"), file)

    assert find_type("RegCell").cls is again.RegCell
    assert find_type("RegCell").cls.marker == "new"


def test_one_file_under_two_module_names_is_one_class(loaded, tmp_path):
    file = str(tmp_path / "app.py")
    loaded("reg_main", PLAIN.format(name="RegTwice", marker="__main__"), file)
    loaded("reg_app", PLAIN.format(name="RegTwice", marker="app"), file)

    assert find_type("RegTwice").cls.marker == "app"


def test_a_class_of_that_name_from_another_file_is_an_error_that_names_both(loaded, tmp_path):
    first, second = str(tmp_path / "first.py"), str(tmp_path / "second.py")
    loaded("reg_first", PLAIN.format(name="RegClash", marker="first"), first)

    with pytest.raises(TypeError, match="RegClash") as raised:
        loaded("reg_second", PLAIN.format(name="RegClash", marker="second"), second)

    assert first in str(raised.value)
    assert second in str(raised.value)
    assert find_type("RegClash").cls.marker == "first"


def test_a_class_without_durable_object_is_refused():
    with pytest.raises(TypeError, match="inherits from DurableObject"):

        @durable.object
        class RegBare:
            pass


def test_get_or_create_of_an_undecorated_class_says_so():
    class RegUndecorated(DurableObject):
        pass

    with pytest.raises(TypeError, match="RegUndecorated is no durable object: decorate"):
        RegUndecorated.get_or_create("x")


def test_a_subclass_is_a_type_of_its_own_once_decorated():
    @durable.object(max_state_bytes=10)
    class RegBase(DurableObject):
        def base(self):
            pass

    class RegChild(RegBase):
        def child(self):
            pass

    with pytest.raises(TypeError, match="RegChild is no durable object"):
        type_of(RegChild)

    durable.object(RegChild)

    assert set(type_of(RegChild).methods) == {"base", "child"}
    assert type_of(RegChild).max_state_bytes == STATE_BYTES_MAX
    assert set(type_of(RegBase).methods) == {"base"}


def test_callable_are_the_public_functions_of_the_class_and_its_bases():
    class Mixin:
        def mixed_in(self):
            pass

        def overridden(self):
            pass

    @durable.object
    class RegMethods(Mixin, DurableObject):
        constant = 3

        def plain(self):
            pass

        async def asynchronous(self):
            pass

        def _helper(self):
            pass

        def __len__(self):
            return 0

        @staticmethod
        def static():
            pass

        @classmethod
        def of_class(cls):
            pass

        @property
        def computed(self):
            pass

        async def on_activate(self):
            pass

        @classmethod
        def migrate(cls, state, version):
            return state

        overridden = None

    found = type_of(RegMethods)
    assert set(found.methods) == {"mixed_in", "plain", "asynchronous"}
    assert found.methods["asynchronous"].is_async
    assert not found.methods["plain"].is_async


def test_an_unknown_method_says_which_it_could_be():
    @durable.object
    class RegUnknown(DurableObject):
        def total(self):
            pass

    with pytest.raises(UnknownMethod, match=r"RegUnknown has no method 'totl': did you mean"):
        type_of(RegUnknown).method("totl")


def test_an_unknown_type_says_which_it_could_be():
    @durable.object
    class RegKnownType(DurableObject):
        pass

    with pytest.raises(UnknownType, match="did you mean 'RegKnownType'"):
        find_type("RegKnownTyp")


def test_a_shared_method_is_marked():
    @durable.object
    class RegShared(DurableObject):
        @durable.shared
        async def read(self):
            pass

        async def write(self):
            pass

    methods = type_of(RegShared).methods
    assert methods["read"].is_shared
    assert not methods["write"].is_shared


def test_only_a_method_can_be_shared():
    with pytest.raises(TypeError, match="decorates a method"):
        durable.shared(property(lambda self: 1))


@pytest.mark.parametrize("value", [[], {}, set(), bytearray()])
def test_a_mutable_class_attribute_is_refused(value):
    with pytest.raises(TypeError, match="assign it in __init__"):
        durable.object(type("RegMutable", (DurableObject,), {"items": value}))


@pytest.mark.parametrize("name", ["save", "get_or_create", "object_id"])
def test_reserved_names_are_refused(name):
    with pytest.raises(TypeError, match="reserved"):
        durable.object(type("RegReserved", (DurableObject,), {name: lambda self: None}))


def test_users_own_every_other_name():
    @durable.object
    class RegNames(DurableObject):
        def __init__(self, object_id):
            super().__init__(object_id)
            self.name = self.status = self.type = self.id = self.key = self.messages = 1

        def reset(self):
            pass

        def delete(self):
            pass

        def list(self):
            pass

        def call(self):
            pass

    assert set(type_of(RegNames).methods) == {"reset", "delete", "list", "call"}


def test_slots_are_refused_because_state_in_them_would_be_lost():
    with pytest.raises(TypeError, match="__slots__"):

        @durable.object
        class RegSlots(DurableObject):
            __slots__ = ("value",)


def test_a_generator_method_is_refused():
    with pytest.raises(TypeError, match=r"RegGenerator\.items is a generator"):

        @durable.object
        class RegGenerator(DurableObject):
            async def items(self):
                yield 1


def test_a_method_without_self_is_refused():
    with pytest.raises(TypeError, match="no parameter for `self`"):

        @durable.object
        class RegNoSelf(DurableObject):
            def nothing():
                pass


def test_further_parameters_of_init_need_defaults():
    with pytest.raises(TypeError, match="'currency' needs a default"):

        @durable.object
        class RegCurrency(DurableObject):
            def __init__(self, account_id, currency):
                super().__init__(account_id)


def test_init_takes_the_id():
    with pytest.raises(TypeError, match="takes the object id"):

        @durable.object
        class RegNoId(DurableObject):
            def __init__(self):
                super().__init__("x")


def test_init_runs_with_the_id_and_gets_its_other_defaults():
    @durable.object
    class RegInit(DurableObject):
        def __init__(self, account_id, currency="EUR"):
            super().__init__(account_id)
            self.currency = currency

    made = type_of(RegInit).new("a1")

    assert isinstance(made, RegInit)
    assert (made.object_id, made.currency) == ("a1", "EUR")
    assert vars(made) == {"currency": "EUR"}


def test_the_id_is_read_only_and_no_state():
    @durable.object
    class RegId(DurableObject):
        pass

    made = type_of(RegId).new("a1")

    with pytest.raises(AttributeError):
        made.object_id = "a2"
    assert vars(made) == {}


def test_an_object_cannot_take_another_id_than_its_own():
    @durable.object
    class RegOtherId(DurableObject):
        def __init__(self, object_id):
            super().__init__(object_id + "!")

    with pytest.raises(ValueError, match="takes the id 'a1', not 'a1!'"):
        type_of(RegOtherId).new("a1")


@pytest.mark.parametrize("version", [0, -1, True, "2", 1.0])
def test_a_state_version_is_an_int_from_one(version):
    with pytest.raises(TypeError, match="state_version"):
        durable.object(type("RegVersion", (DurableObject,), {"state_version": version}))


def test_state_of_an_older_version_is_migrated():
    @durable.object
    class RegMigrate(DurableObject):
        state_version = 3

        @classmethod
        def migrate(cls, state, version):
            return {**state, "from": version, "by": cls.__name__}

    found = type_of(RegMigrate)
    assert found.migrate({"a": 1}, 1) == {"a": 1, "from": 1, "by": "RegMigrate"}
    assert found.migrate({"a": 1}, 3) == {"a": 1}
    with pytest.raises(ValueError, match="version 4, this code knows versions up to 3"):
        found.migrate({}, 4)


def test_migrate_may_be_written_without_classmethod():
    @durable.object
    class RegMigratePlain(DurableObject):
        state_version = 2

        def migrate(cls, state: dict, version: int) -> dict:
            return {"of": cls.__name__}

    assert type_of(RegMigratePlain).migrate({}, 1) == {"of": "RegMigratePlain"}


def test_a_migration_that_returns_no_state_is_an_error():
    @durable.object
    class RegMigrateNone(DurableObject):
        state_version = 2

        @classmethod
        def migrate(cls, state, version):
            state["new"] = 1

    with pytest.raises(TypeError, match="returns the state as a dict, not NoneType"):
        type_of(RegMigrateNone).migrate({}, 1)


@pytest.mark.parametrize(
    "hook", [lambda self: None, lambda self, more: None], ids=["not async", "an argument"]
)
def test_on_activate_is_async_and_takes_nothing(hook):
    with pytest.raises(TypeError, match=r"async def on_activate\(self\)"):
        durable.object(type("RegActivate", (DurableObject,), {"on_activate": hook}))


async def never_run(instance):
    await instance.save()


def test_save_outside_of_a_call_is_a_runtime_error():
    @durable.object
    class RegSave(DurableObject):
        pass

    made = type_of(RegSave).new("a1")
    coroutine = never_run(made)

    with pytest.raises(RuntimeError, match="outside of a call"):
        coroutine.send(None)


def test_the_method_table_tells_names_signatures_and_what_is_shared():
    @durable.object
    class RegTable(DurableObject):
        async def add(self, ctx, amount: int = 1) -> dict: ...

        @durable.shared
        def total(self) -> float: ...

    assert type_of(RegTable).describe() == [
        ("add", "(amount: int = 1) -> dict", False),
        ("total", "() -> float", True),
    ]


def test_an_exception_is_registered_and_nothing_else_by_error():
    @durable.error
    class RegError(Exception):
        pass

    assert RegError.__name__ == "RegError"
    with pytest.raises(TypeError, match="decorates an exception"):
        durable.error(int)
