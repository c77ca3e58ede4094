from __future__ import annotations

import json

import pytest

from perdure.cli.arguments import json_arguments, limit_settings, object_key
from perdure.cli.failure import USAGE, CommandFailed
from perdure.ids import ObjectKey


def test_an_object_is_typed_as_type_slash_id_and_the_id_may_hold_slashes() -> None:
    assert object_key("Cart/u1") == ObjectKey("Cart", "u1")
    assert object_key("Cart/eu/u1/") == ObjectKey("Cart", "eu/u1/")
    assert object_key("Cart/ä b") == ObjectKey("Cart", "ä b")


@pytest.mark.parametrize("text", ["", "Cart", "Cart/", "/u1", "/"])
def test_anything_else_is_no_object(text: str) -> None:
    with pytest.raises(CommandFailed, match="an object is named TYPE/ID") as caught:
        object_key(text)

    assert caught.value.status == USAGE


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["amount=5"], {"amount": 5}),
        (["amount=5", "note=for you"], {"amount": 5, "note": "for you"}),
        (["flag=true", "nothing=null", 'text="5"'], {"flag": True, "nothing": None, "text": "5"}),
        (["zip=01234", "url=a=b", "empty="], {"zip": "01234", "url": "a=b", "empty": ""}),
        (["items=[1, 2]", 'who={"id": 7}'], {"items": [1, 2], "who": {"id": 7}}),
        (["x=NaN", "y=-Infinity"], {"x": "NaN", "y": "-Infinity"}),
        (["5"], [5]),
        (["5", "text", "a b=c"], [5, "text", "a b=c"]),
        (["[1, 2]"], [1, 2]),
        (["[1, 2]", "3"], [[1, 2], 3]),
        (['{"amount": 5}'], {"amount": 5}),
        (["[]"], []),
    ],
)
def test_arguments_are_json_or_else_plain_text(words: list[str], meant: object) -> None:
    text = json_arguments(words)

    assert text is not None
    assert json.loads(text) == meant


def test_no_words_are_no_arguments() -> None:
    assert json_arguments([]) is None


def test_numbers_keep_all_their_digits() -> None:
    digits = "0.1234567890123456789012345678901234567890"

    assert json_arguments([f"x={digits}"]) == f'{{"x": {digits}}}'.encode()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["[1, 2"], "the arguments are no JSON"),
        (["{amount: 5}"], "the arguments are no JSON"),
        (["[NaN]"], "NaN is no JSON"),
        (["a=1", "a=2"], "the argument a is given twice"),
        (["a=1", "2"], "all arguments by name, or all by position"),
        (["a=\udcff"], "no UTF-8"),
    ],
)
def test_malformed_arguments_are_refused(words: list[str], problem: str) -> None:
    with pytest.raises(CommandFailed, match=problem) as caught:
        json_arguments(words)

    assert caught.value.status == USAGE


def test_limits_are_typed_as_name_and_number() -> None:
    assert limit_settings(["activations_max=5"]) == {"limits.activations_max": "5"}
    with pytest.raises(CommandFailed, match="a limit is NAME=NUMBER, not 'x'"):
        limit_settings(["x"])
