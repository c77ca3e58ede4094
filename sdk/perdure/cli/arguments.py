"""What is typed after a command, as objects, arguments and limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from perdure.cli.failure import USAGE, CommandFailed
from perdure.ids import ObjectKey

__all__ = ["json_arguments", "json_payload", "limit_settings", "object_key"]


def object_key(text: str) -> ObjectKey:
    """Read `TYPE/ID`. The id may itself hold slashes.

    Raises:
        CommandFailed: It is no such text.
    """
    type_name, slash, object_id = text.partition("/")
    if not type_name or not slash or not object_id:
        raise CommandFailed(f"an object is named TYPE/ID, not {text!r}", USAGE)
    return ObjectKey(type_name, _unicode(object_id))


def json_arguments(words: Sequence[str]) -> bytes | None:
    """Read the arguments of a call: JSON, an array by position or an object by name.

    One word that is a JSON array or object is all of them. Else every `name=value` is one by
    name and every other word one by position; a value is JSON, or else plain text.

    Returns:
        None when there are no words.

    Raises:
        CommandFailed: They are malformed, or some have names and some have not.
    """
    if not words:
        return None
    words = [_unicode(word) for word in words]
    if len(words) == 1 and words[0].lstrip()[:1] in ("[", "{"):
        try:
            json.loads(words[0], parse_constant=_refuse_constant)
        except ValueError as error:
            raise CommandFailed(f"the arguments are no JSON: {error}", USAGE) from None
        return words[0].encode()
    named: dict[str, str] = {}
    positional: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and name.isidentifier()):
            positional.append(_json(word))
        elif name in named:
            raise CommandFailed(f"the argument {name} is given twice", USAGE)
        else:
            named[name] = _json(value)
    if named and positional:
        raise CommandFailed("give all arguments by name, or all by position", USAGE)
    if named:
        items = (f"{json.dumps(name)}: {value}" for name, value in named.items())
        return f"{{{', '.join(items)}}}".encode()
    return f"[{', '.join(positional)}]".encode()


def json_payload(word: str) -> bytes:
    """Read a payload: one JSON value.

    Raises:
        CommandFailed: It is none.
    """
    text = _unicode(word)
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise CommandFailed(
            f"a payload is JSON, with text in double quotes: {error}", USAGE
        ) from None
    return text.encode()


def limit_settings(words: Sequence[str]) -> dict[str, object]:
    """Read `name=number` words as settings of `[limits]`.

    Raises:
        CommandFailed: A word is not of that form.
    """
    settings: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise CommandFailed(f"a limit is NAME=NUMBER, not {word!r}", USAGE)
        settings[f"limits.{name}"] = value
    return settings


def _json(text: str) -> str:
    # The text itself, not what Python makes of it: numbers keep all their digits.
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return json.dumps(text)
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _unicode(text: Any) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CommandFailed(f"this is no UTF-8: {text!r}", USAGE) from None
    return str(text)
