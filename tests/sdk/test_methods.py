"""How arguments reach a method: the remote signature, the context, defaults, JSON."""

from __future__ import annotations

import asyncio
import typing
from typing import TYPE_CHECKING, Optional, Union

import pytest

import perdure
from perdure import BadArguments, DurableContext
from perdure.ids import ObjectKey
from perdure.methods import make_method

if TYPE_CHECKING:
    from nowhere import Unresolvable

CONTEXT = DurableContext(ObjectKey("Thing", "t1"), "run", "call 1")
ABSENT = object()


def method(function):
    return make_method("Thing", function.__name__, function)


def annotated(annotation):
    def run(self, context, item=1):
        return context, item

    run.__annotations__["context"] = annotation
    return method(run)


@pytest.mark.parametrize(
    "annotation",
    [
        DurableContext,
        "DurableContext",
        "perdure.DurableContext",
        " perdure . DurableContext ",
        "'DurableContext'",
        "Optional[DurableContext]",
        "typing.Optional[perdure.DurableContext]",
        "DurableContext | None",
        "None | perdure.DurableContext",
        "Union[DurableContext, None]",
        "Optional['DurableContext']",
        Optional[DurableContext],  # noqa: UP045 - what this test is about
        DurableContext | None,
        Union[None, DurableContext],  # noqa: UP007 - what this test is about
        Optional["DurableContext"],
    ],
    ids=repr,
)
def test_the_context_is_the_parameter_annotated_durable_context(annotation):
    made = annotated(annotation)

    assert made.context_parameter == "context"
    assert str(made.signature) == "(item=1)"
    assert made.invoke(None, CONTEXT, [5], {}) == (CONTEXT, 5)


@pytest.mark.parametrize(
    "annotation",
    [
        "Context",
        "DurableContexts",
        "DurableContext | int",
        "Optional[int]",
        "list[DurableContext]",
        "Unresolvable | Other",
        int | None,
        typing.Any,
        None,
        "",
    ],
    ids=repr,
)
def test_another_annotation_is_no_context(annotation):
    assert annotated(annotation).context_parameter is None


def test_an_annotation_that_cannot_be_resolved_breaks_nothing():
    def run(self, a: Unresolvable, ctx: DurableContext) -> Unresolvable:
        return a, ctx

    assert method(run).invoke(None, CONTEXT, [1], {}) == (1, CONTEXT)


def test_a_first_parameter_named_ctx_without_annotation_is_the_context():
    def run(self, ctx, a):
        return ctx, a

    assert method(run).invoke(None, CONTEXT, [1], {}) == (CONTEXT, 1)


def test_a_first_parameter_named_ctx_with_another_annotation_is_not():
    def run(self, ctx: dict):
        return ctx

    assert method(run).context_parameter is None


def test_a_later_parameter_named_ctx_without_annotation_is_not():
    def run(self, a, ctx):
        return ctx

    assert method(run).context_parameter is None


def test_two_contexts_are_a_type_error():
    def run(self, a: DurableContext, b: DurableContext | None = None):
        pass

    with pytest.raises(TypeError, match=r"Thing\.run has two contexts, a and b"):
        method(run)


class Shapes:
    def first(self, ctx: DurableContext, a, b=2):
        return ctx, a, b

    def middle(self, a, ctx: DurableContext, b=2):
        return ctx, a, b

    def last_positional(self, a, b=2, ctx: DurableContext = None, /):
        return ctx, a, b

    def keyword_only(self, a, b=2, *, ctx: DurableContext):
        return ctx, a, b

    def before_args(self, a, ctx: DurableContext, *b):
        return ctx, a, b[0] if b else 2


@pytest.mark.parametrize(
    "name", ["first", "middle", "last_positional", "keyword_only", "before_args"]
)
def test_the_context_is_given_wherever_it_stands(name):
    made = method(getattr(Shapes, name))

    assert made.invoke(None, CONTEXT, [1], {}) == (CONTEXT, 1, 2)
    assert made.invoke(None, CONTEXT, [1, 3], {}) == (CONTEXT, 1, 3)


@pytest.mark.parametrize("name", ["first", "middle", "keyword_only"])
def test_arguments_before_the_context_may_go_by_name(name):
    made = method(getattr(Shapes, name))

    assert made.invoke(None, CONTEXT, [], {"b": 3, "a": 1}) == (CONTEXT, 1, 3)


@pytest.mark.parametrize("given", [CONTEXT, perdure.ctx, None], ids=["a context", "ctx", "None"])
def test_a_context_given_in_its_place_or_by_its_name_is_dropped(given):
    first, middle = method(Shapes.first), method(Shapes.middle)

    assert first.drop_context((given, 1, 3), {}) == ((1, 3), {})
    assert middle.drop_context((1, given, 3), {}) == ((1, 3), {})
    assert middle.drop_context((1,), {"ctx": given, "b": 3}) == ((1,), {"b": 3})
    assert middle.drop_context((1, 3), {}) == ((1, 3), {})


def test_something_else_under_the_context_s_name_is_a_type_error():
    with pytest.raises(TypeError, match="takes a DurableContext as 'ctx', or nothing, not int"):
        method(Shapes.middle).drop_context((1,), {"ctx": 5})


def python_shapes():
    def none(self): ...
    def positional_only(self, a, b=1, /): ...
    def mixed(self, a, /, b, c=1, *rest, d, e=2, **more): ...
    def keywords(self, *, a, b=1): ...
    def anything(self, *args, **kwargs): ...

    return [none, positional_only, mixed, keywords, anything]


CALLS = [
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3, 4), {}),
    ((1,), {"b": 2}),
    ((), {"a": 1}),
    ((1, 2), {"d": 3}),
    ((1,), {"b": 2, "d": 3, "x": 4}),
    ((1, 2), {"b": 2, "d": 3}),
    ((), {"a": 1, "z": 1}),
]


@pytest.mark.parametrize("function", python_shapes(), ids=lambda f: f.__name__)
@pytest.mark.parametrize(("args", "kwargs"), CALLS, ids=repr)
def test_a_call_is_accepted_just_when_python_would(function, args, kwargs):
    def accepted(call):
        try:
            call()
        except TypeError:
            return False
        return True

    made = method(function)
    expected = accepted(lambda: function(None, *args, **kwargs))
    assert accepted(lambda: made.check(*args, **kwargs)) is expected
    assert accepted(lambda: made.bind(args, kwargs)) is expected


def test_a_wrong_call_is_worded_as_python_does():
    def add(self, item, quantity): ...

    with pytest.raises(TypeError, match=r"Thing\.add\(\) missing 1 required positional argument"):
        method(add).check("x")


def test_defaults_are_filled_in_by_the_object_s_side_a_fresh_copy_each_time():
    def add(self, item, into=[], *, tags={"a": [1]}):  # noqa: B006 - what this test is about
        into.append(item)
        tags["a"].append(item)
        return into, tags

    made = method(add)

    assert made.invoke(None, CONTEXT, [1], {}) == ([1], {"a": [1, 1]})
    assert made.invoke(None, CONTEXT, [2], {}) == ([2], {"a": [1, 2]})
    assert made.invoke(None, CONTEXT, [3, [9]], {}) == ([9, 3], {"a": [1, 3]})


def test_a_default_that_is_a_marker_stays_that_object():
    def find(self, key, default=ABSENT):
        return default is ABSENT

    assert method(find).invoke(None, CONTEXT, ["k"], {}) is True


def test_an_async_method_gives_a_coroutine():
    async def run(self, ctx, a):
        return ctx, a

    made = method(run)

    assert made.is_async
    assert asyncio.run(made.invoke(None, CONTEXT, [1], {})) == (CONTEXT, 1)


def test_a_decorated_method_shows_the_signature_of_what_it_wraps():
    import functools

    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @logged
    def run(self, ctx: DurableContext, a, b=2):
        return ctx, a, b

    made = method(run)

    assert str(made.signature) == "(a, b=2)"
    assert made.invoke(None, CONTEXT, [1], {}) == (CONTEXT, 1, 2)


def test_a_json_array_is_arguments_by_position_and_an_object_by_name():
    def run(self, a: int, b: str = "x", *rest: float, c: bool = False, **more: int): ...

    made = method(run)

    assert made.from_json([1, "y", 2, 3.5]) == ([1, "y", 2.0, 3.5], {})
    assert made.from_json({"a": 1, "c": True, "z": 4}) == ([1], {"c": True, "z": 4})
    assert made.from_json({"a": 1, "b": "y"}) == ([1, "y"], {})


def test_no_json_is_no_arguments():
    def run(self): ...

    assert method(run).from_json(None) == ([], {})
    assert method(run).from_json([]) == ([], {})
    assert method(run).from_json({}) == ([], {})


def test_json_may_name_what_python_takes_by_position_only():
    def run(self, a, b=2, /, c=3): ...

    assert method(run).from_json({"a": 1, "c": 4}) == ([1], {"c": 4})


def test_a_context_that_json_gives_as_null_is_dropped():
    assert method(Shapes.first).from_json({"ctx": None, "a": 1}) == ([1], {})


def test_a_default_of_none_admits_null():
    def run(self, metadata: dict = None): ...  # noqa: RUF013 - what this test is about

    assert method(run).from_json([None]) == ([None], {})


@pytest.mark.parametrize("value", [5, "text", True, {1: 2}])
def test_other_json_is_no_arguments(value):
    def run(self, a): ...

    with pytest.raises(BadArguments, match=r"Thing\.run\(\) takes its arguments as a JSON array"):
        method(run).from_json(value)


@pytest.mark.parametrize("value", [[], [1, 2, 3], {"a": 1, "x": 2}, {"b": 1}])
def test_json_that_does_not_fit_is_bad_arguments(value):
    def run(self, a, b=1): ...

    with pytest.raises(BadArguments, match=r"Thing\.run\(\)"):
        method(run).from_json(value)


def test_json_that_cannot_be_converted_names_the_parameter():
    def run(self, a: int): ...

    with pytest.raises(BadArguments, match=r"Thing\.run\(\) argument 'a'"):
        method(run).from_json(["five"])


def test_a_wrong_name_says_which_it_could_be():
    def add(self, item, quantity=1, *, note=""): ...

    made = method(add)

    with pytest.raises(BadArguments, match="'quantty': did you mean 'quantity'"):
        made.from_json({"item": "x", "quantty": 2})
    with pytest.raises(BadArguments, match="'zzz'; there are item, note, quantity"):
        made.from_json({"item": "x", "zzz": 2})


def test_arguments_are_compared_by_name_however_they_are_given():
    def add(self, a, b=2, *rest, c=3, **more): ...

    made = method(add)

    assert made.named([1, 5], {"c": 4}) == made.named([], {"c": 4, "b": 5, "a": 1})
    assert made.named([1], {"y": 1, "x": 2}) == made.named([1], {"x": 2, "y": 1})
    assert made.named([1], {}) == [("a", 1)], "a default belongs to the object's side"
