import dataclasses
import enum
import functools
import importlib
import sys
import textwrap
import typing

import pydantic
import pytest
from harness.known_classes import known_classes

from perdure import values
from perdure.codec import NotEncodable, decode, encode
from perdure.errors import UnknownType
from perdure.extensions import Extension


@pytest.fixture(autouse=True)
def _nothing_known():
    with known_classes():
        yield


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    written = []

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        written.append(name)
        # A file written twice within a second would else come from its cache.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        if name in sys.modules:
            return importlib.reload(sys.modules[name])
        return importlib.import_module(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


ITEM = """
    import dataclasses

    @dataclasses.dataclass
    class Item:
        x: int
"""


@dataclasses.dataclass
class Here:
    x: int

    class Kind(enum.Enum):
        A = 1


class NotAValue:
    pass


def test_classes_of_a_registered_module_are_known_later_and_nested_ones_too(write_module):
    module = write_module("shop_a", "import dataclasses, enum")
    values.register_module("shop_a")
    assert values.find("Item", "dataclass") is None

    module = write_module("shop_a", ITEM + "\n    class Inner:\n        pass\n")
    assert values.find("Item", "dataclass") is module.Item
    assert values.find("Item", "enum") is None
    assert values.name_of(module.Item) == "Item"
    assert decode(encode([module.Item(3)])) == [module.Item(3)]

    assert values.name_of(Here) is None
    values.register_module(__name__)
    assert values.name_of(Here.Kind) == "Here.Kind"
    assert decode(encode(Here.Kind.A)) is Here.Kind.A


def test_only_what_a_module_itself_defines_is_found_in_it(write_module):
    write_module("shop_b", ITEM)
    write_module("shop_c", "from shop_b import Item\nimport os\nother = Item")
    values.register_module("shop_c")

    for name in ("Item", "other", "os", "os.path", "__builtins__", "Item.__init__", "", "."):
        assert values.find(name, "dataclass") is None


def test_a_class_that_is_defined_again_takes_the_place_of_the_old_one(write_module):
    module = write_module("shop_d", ITEM)
    values.register(module.Item)
    values.register_module("shop_d")
    old = module.Item(1)
    data = encode(old)

    module = write_module("shop_d", ITEM + "        y: int = 5\n")
    values.register(module.Item)
    assert type(old) is not module.Item
    assert decode(data) == module.Item(1, 5)
    assert values.name_of(type(old)) == "Item"


def test_one_file_imported_under_two_names_has_one_class(write_module, tmp_path):
    first = write_module("shop_e", ITEM)
    spec = importlib.util.spec_from_file_location("shop_e_main", tmp_path / "shop_e.py")
    second = importlib.util.module_from_spec(spec)
    sys.modules["shop_e_main"] = second
    spec.loader.exec_module(second)
    values.register_module("shop_e")
    values.register_module("shop_e_main")

    try:
        assert decode(encode(first.Item(1))).x == 1
        assert decode(encode(second.Item(2))).x == 2
    finally:
        del sys.modules["shop_e_main"]


def test_a_module_whose_import_fails_leaves_the_others_as_they_are(write_module):
    with pytest.raises(ZeroDivisionError):
        write_module(
            "shop_broken", "from perdure import values\nvalues.register_module(__name__)\n1 / 0"
        )
    here = write_module("shop_sound", ITEM)
    values.register_module("shop_sound")

    assert decode(encode(here.Item(1))) == here.Item(1)
    with pytest.raises(UnknownType, match="'Item'"):
        decode(_member("Item", "X"))


def test_two_files_cannot_register_one_name(write_module):
    first, second = write_module("shop_f", ITEM), write_module("shop_g", ITEM)
    values.register(first.Item)
    with pytest.raises(TypeError, match=r"'Item'.*shop_f\.py.*shop_g\.py.*name="):
        values.register(second.Item)

    values.register(second.Item, "OtherItem")
    assert type(decode(encode(second.Item(1)))) is second.Item
    assert type(decode(encode(first.Item(1)))) is first.Item


def test_two_modules_that_define_one_name_are_an_error_when_it_is_used(write_module):
    first, second = write_module("shop_h", ITEM), write_module("shop_i", ITEM)
    values.register_module("shop_h")
    data = encode(first.Item(1))
    values.register_module("shop_i")

    with pytest.raises(NotEncodable, match=r"shop_h\.py.*shop_i\.py"):
        encode(second.Item(1))
    values._homes.clear()
    with pytest.raises(UnknownType, match=r"shop_h\.py.*shop_i\.py"):
        decode(data)


def test_what_is_no_value_class_cannot_be_registered():
    for cls in (NotAValue, int, typing.NamedTuple("N", [("x", int)]), KeyboardInterrupt, 5):
        with pytest.raises(TypeError, match="no dataclass, pydantic model, Enum or exception"):
            values.register(cls)
    for name in ("", "a\nb", "x" * 201, 5):
        with pytest.raises(ValueError, match="printable"):
            values.register(Here, name)


def test_a_class_in_a_function_is_known_only_when_it_is_registered():
    @dataclasses.dataclass
    class Local:
        x: int

    values.register_module(__name__)
    with pytest.raises(NotEncodable, match="a class that is not known"):
        encode(Local(1))

    values.register(Local)
    assert values.name_of(Local) == "Local"
    assert decode(encode(Local(1))) == Local(1)


class Later(typing.Generic[typing.TypeVar("T")]):
    pass


def method(a: "list[Here | None]", b: "Missing", c: dict[str, Here.Kind], d: Later[int]) -> None:  # noqa: F821
    """Take what has annotations of all sorts."""


def test_classes_in_annotations_are_known_even_beside_one_that_cannot_be_resolved():
    values.register_annotations(method)

    assert decode(encode(Here(1))) == Here(1)
    assert values.find("Here.Kind", "enum") is Here.Kind
    assert values.name_of(NotAValue) is None


@dataclasses.dataclass
class Record:
    a: object
    b: list = dataclasses.field(default_factory=list)
    c: int = dataclasses.field(default=7, init=False)
    d: dataclasses.InitVar[int] = 0

    def __post_init__(self, d):
        self.b = [*self.b, d]

    @functools.cached_property
    def twice(self):
        return [self.a, self.a]


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Frozen:
    a: object
    b: int = dataclasses.field(default=1, compare=False, repr=False)


@dataclasses.dataclass
class Refusing:
    a: int

    def __setattr__(self, name, value):
        if name in self.__dict__:
            raise AttributeError(name)
        super().__setattr__(name, value)


def test_a_dataclass_comes_back_with_exactly_its_fields_and_no_constructor_runs():
    values.register_module(__name__)
    record = Record(1, [2], d=3)
    record.c = 8

    back = decode(encode(record))
    assert (back.a, back.b, back.c) == (1, [2, 3], 8)
    assert vars(back).keys() == {"a", "b", "c"}
    assert decode(encode(Frozen((1, 2), 5))) == Frozen((1, 2), 5)
    assert decode(encode(Frozen((1, 2), 5))).b == 5
    assert decode(encode(Refusing(1))) == Refusing(1)
    assert decode(encode({Frozen(1): {Frozen(2)}})) == {Frozen(1): {Frozen(2)}}


def test_what_a_cached_property_holds_is_computed_again():
    values.register_module(__name__)
    record = Record(1)
    assert record.twice == [1, 1]

    back = decode(encode(record))
    assert "twice" not in vars(back)
    assert back.twice == [1, 1]


@dataclasses.dataclass
class AlsoAList(list):
    a: int = 1


class Slotted:
    __slots__ = ("hidden",)


@dataclasses.dataclass
class WithHidden(Slotted):
    a: int = 1


def test_a_dataclass_that_holds_more_than_its_fields_is_refused():
    values.register_module(__name__)
    record = Record(1)
    record.more = 2
    with pytest.raises(NotEncodable, match="Record has no field 'more' to store it in"):
        encode(record)

    hidden = WithHidden()
    assert decode(encode(hidden)) == hidden
    hidden.hidden = 1
    with pytest.raises(NotEncodable, match="no field 'hidden'"):
        encode(hidden)

    del record.more, record.a
    with pytest.raises(NotEncodable, match="whose field 'a' is not set"):
        encode(record)
    with pytest.raises(NotEncodable, match="another kind of value"):
        encode(AlsoAList())


def test_a_field_not_stored_gets_its_default_and_one_no_longer_there_is_an_error():
    values.register_module(__name__)

    def stored(content):
        body = b"\x92" + encode("Record") + encode(content)
        return b"\xc7" + bytes([len(body), Extension.INSTANCE]) + body

    back = decode(stored({"a": 1}))
    assert (back.a, back.b, back.c) == (1, [], 7)
    with pytest.raises(UnknownType, match="'Record' with the field 'gone'"):
        decode(stored({"a": 1, "gone": 2}))
    with pytest.raises(UnknownType, match="'Record' whose field 'a' has a default"):
        decode(stored({"b": []}))


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias
    OTHER = object()


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


def test_enum_members_are_the_members_themselves_whatever_their_value():
    values.register_module(__name__)
    for member in (Colour.RED, Colour.CRIMSON, Colour.OTHER, Rights.READ | Rights.WRITE):
        assert decode(encode(member)) is member

    with pytest.raises(UnknownType, match="'Colour' with the member 'GONE'"):
        decode(_member("Colour", "GONE"))
    with pytest.raises(UnknownType, match="'Rights' with the member 8"):
        decode(_member("Rights", 8))


def _member(cls, member):
    body = b"\x92" + encode(cls) + encode(member)
    return b"\xc7" + bytes([len(body), Extension.ENUM]) + body


class Model(pydantic.BaseModel):
    a: int
    b: list[int] = []
    c: "Model | None" = None
    _p: object = pydantic.PrivateAttr(default=3)
    _q: int = pydantic.PrivateAttr()


class Plain(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    a: int
    b: str = pydantic.Field(default="x", alias="bee")

    @pydantic.field_validator("a")
    @classmethod
    def _small(cls, value):
        if value > 10:
            raise ValueError("too large")
        return value


class Extra(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int


class Listed(pydantic.RootModel[list[int]]):
    pass


def test_a_model_comes_back_as_it_was_and_no_validator_runs():
    values.register_module(__name__)
    model = Model(a=1, c=Model(a=2, b=[3]))
    model._p = {"k": (1,)}
    for value in (model, Plain(a=1, bee="y"), Plain(a=2), Extra(a=1, more=2), Listed([1, 2])):
        back = decode(encode(value))
        assert back == value
        assert back.model_fields_set == value.model_fields_set
        assert type(back) is type(value)
    assert decode(encode(model))._p == {"k": (1,)}
    assert decode(encode(Extra(a=1))).model_extra == {}

    odd = Plain.model_construct(a=99)
    assert decode(encode(odd)).a == 99
    with pytest.raises(NotEncodable, match="whose field 'a' is not set"):
        encode(Plain.model_construct())
    model._p = len
    with pytest.raises(NotEncodable) as refused:
        encode({"m": model})
    assert refused.value.path == "['m']._p"


def test_a_model_whose_class_has_changed_gets_defaults_or_is_refused():
    values.register_module(__name__)

    def stored(*parts):
        body = bytes([0x91 + len(parts)]) + encode("Model") + b"".join(map(encode, parts))
        return b"\xc7" + bytes([len(body), Extension.INSTANCE]) + body

    back = decode(stored({"a": 1}))
    assert (back.a, back.b, back.c, back._p) == (1, [], None, 3)
    assert back.model_fields_set == {"a"}
    for parts in (
        [{}],
        [{"a": 1, "z": 1}],
        [{"a": 1}, [], {"z": 1}, {}],
        [{"a": 1}, [], {}, {"_z": 1}],
    ):
        with pytest.raises(UnknownType):
            decode(stored(*parts))
