import dataclasses

import pytest
from harness.known_classes import known_classes

from perdure import values
from perdure.errors import BadPayload, ObjectNotFound, RemoteError
from perdure.raised import describe_exception, pack_exception, unpack_exception


class Declined(Exception):
    """Takes other arguments than it passes on."""

    def __init__(self, card, *, code):
        super().__init__(f"{card} was declined")
        self.card = card
        self.code = code


class NoRoom(OSError):
    pass


class Wrapped(ExceptionGroup):
    def derive(self, excs):
        return Wrapped(self.message, excs)


@dataclasses.dataclass(frozen=True)
class Limit(Exception):
    limit: int
    who: tuple = ()


class Stranger(ValueError):
    """Nobody has registered this one."""


@pytest.fixture(autouse=True)
def _known():
    with known_classes():
        for cls in (Declined, NoRoom, Wrapped, Limit):
            values.register(cls)
        yield


def _sent(error):
    """Return what the caller gets of an error that a method raises."""
    try:
        raise error
    except BaseException as raised:
        payload = pack_exception(raised, object="Cart[u1]", method="pay", call_id="ab:1:2")
    return unpack_exception(payload)


def test_a_registered_exception_comes_back_as_itself_and_no_constructor_runs():
    error = _sent(Declined("4242", code=(1, {"x"})))

    assert type(error) is Declined
    assert error.args == ("4242 was declined",)
    assert (error.card, error.code) == ("4242", (1, {"x"}))

    limit = _sent(Limit(3, ("a",)))
    assert type(limit) is Limit
    assert (limit.limit, limit.who) == (3, ("a",))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 2, (3,)),
        KeyError(("a", 1)),
        ZeroDivisionError(),
        FileNotFoundError(2, "gone", "name"),
        ConnectionResetError("x"),
        NoRoom(28, "full", "disk"),
        UnicodeDecodeError("utf8", b"x", 0, 1, "bad"),
        ImportError("no", name="n", path="p"),
        SyntaxError("bad", ("file", 1, 2, "text")),
        TimeoutError(5),
        RecursionError("deep"),
        EOFError,
    ],
    ids=repr,
)
def test_an_exception_keeps_its_class_arguments_and_attributes(error):
    error = error() if isinstance(error, type) else error
    back = _sent(error)

    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    for name in ("errno", "filename", "name", "path", "msg", "lineno", "reason"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_an_exception_of_a_class_not_known_says_what_it_was():
    for error, code, message in (
        (Stranger("secret"), "Stranger", "secret"),
        (SystemExit(3), "SystemExit", "3"),
        (KeyboardInterrupt(), "KeyboardInterrupt", ""),
        (StopIteration(4), "StopIteration", "4"),
        (ValueError(len), "ValueError", "<built-in function len>"),
        (ObjectNotFound("Cart", "u2"), "ObjectNotFound", str(ObjectNotFound("Cart", "u2"))),
    ):
        back = _sent(error)
        assert type(back) is RemoteError
        assert back.args == (code, message, "Cart[u1]", "pay", "ab:1:2")


def test_an_exception_registered_there_but_not_here_is_a_remote_error():
    payload = pack_exception(Declined("1", code=2), object="C[1]", method="m", call_id="c")
    values._registered.clear()

    assert unpack_exception(payload).args == ("Declined", "1 was declined", "C[1]", "m", "c")


def test_an_argument_of_a_class_not_known_here_makes_a_remote_error():
    @dataclasses.dataclass
    class Detail:
        x: int

    values.register(Detail)
    payload = pack_exception(ValueError(Detail(1)), object="C[1]", method="m", call_id="c")
    values._registered.clear()

    assert type(unpack_exception(payload)) is RemoteError


def test_an_attribute_that_cannot_travel_is_left_behind_and_a_note_says_so():
    error = _sent(Declined("1", code=len))

    assert type(error) is Declined
    assert not hasattr(error, "code")
    assert error.__notes__[0] == "the attribute 'code' stayed there: builtin_function_or_method"


def test_notes_are_kept_and_the_remote_traceback_is_one_more():
    error = ValueError("x")
    error.add_note("first")
    back = _sent(error)

    assert back.__notes__[0] == "first"
    assert back.__notes__[1].startswith("Traceback on the side of Cart[u1].pay, call ab:1:2:\n")
    assert "test_raised.py" in back.__notes__[1]
    assert back.__notes__[1].endswith("ValueError: x\nfirst")
    assert len(back.__notes__) == 2


def test_notes_do_not_pile_up_over_many_hops():
    error = Stranger("x")
    sizes = []
    for _ in range(6):
        error = _sent(error)
        sizes.append(sum(map(len, error.__notes__)))

    assert len(error.__notes__) == 1
    assert error.code == "Stranger"
    assert sizes[-1] < 40_000


def test_a_group_comes_back_with_its_parts_each_as_far_as_it_is_known():
    group = ExceptionGroup(
        "both", [ValueError(1), Wrapped("inner", [Stranger("s"), Declined("1", code=2)])]
    )
    back = _sent(group)

    assert type(back) is ExceptionGroup
    assert back.message == "both"
    assert [type(part) for part in back.exceptions] == [ValueError, Wrapped]
    assert [type(part) for part in back.exceptions[1].exceptions] == [RemoteError, Declined]
    assert back.exceptions[1].exceptions[0].object == "Cart[u1]"


def test_groups_without_end_stop_somewhere():
    error = ValueError(1)
    for _ in range(30):
        error = ExceptionGroup("g", [error])
    back, levels = _sent(error), 0
    while isinstance(back, ExceptionGroup):
        back, levels = back.exceptions[0], levels + 1

    assert levels == 8
    assert type(back) is RemoteError


def test_packing_never_fails():
    class Awkward(Exception):
        def __str__(self):
            raise RuntimeError("no")

    for error in (Awkward(), ValueError("\ud800"), ValueError("x" * 100_000), BaseException()):
        back = _sent(error)
        payload = pack_exception(back, object="C[\U0010ffff]", method="m", call_id="c")
        assert len(payload) < 150_000
        assert describe_exception(payload)[0] in ("Awkward", "ValueError", "BaseException")


def test_callers_of_other_languages_get_class_and_message():
    payload = pack_exception(Declined("1", code=2), object="C[1]", method="m", call_id="c")

    assert describe_exception(payload) == ("Declined", "1 was declined")


@pytest.mark.parametrize(
    "fields",
    [
        5,
        {},
        {"class": "ValueError"},
        {"class": 1, "message": "x"},
        {"class": "ValueError", "message": "x", "known": "builtin", "args": 5},
        {"class": "ValueError", "message": "x", "known": "builtin", "args": b"\xc1"},
        {"class": "ValueError", "message": "x", "notes": {}},
        {"class": "ExceptionGroup", "message": "", "known": "builtin", "args": b"\x91\xa1x",
         "parts": [5]},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_exception_is_refused(fields):
    from perdure import codec

    with pytest.raises(BadPayload):
        unpack_exception(codec.encode(fields))


@pytest.mark.parametrize("name", ["KeyboardInterrupt", "SystemExit", "print", "__import__", "os"])
def test_no_other_builtin_is_made_because_of_a_name(name):
    from perdure import codec

    fields = {"class": name, "message": "m", "known": "builtin", "args": codec.encode([])}
    assert type(unpack_exception(codec.encode(fields))) is RemoteError


def test_wrong_arguments_for_a_class_make_a_remote_error():
    from perdure import codec

    for name, args in (("UnicodeDecodeError", [1]), ("ExceptionGroup", []), ("KeyError", 5)):
        fields = {"class": name, "message": "m", "known": "builtin", "args": codec.encode(args)}
        assert type(unpack_exception(codec.encode(fields))) is RemoteError
