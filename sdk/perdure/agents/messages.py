"""Messages of a conversation, as programs write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["Message", "messages_of"]

_ROLES: Final = ("user", "assistant", "system")


class Message(NamedTuple):
    """Who said what."""

    role: str
    content: str


def messages_of(given: Iterable[object]) -> list[Message]:
    """Return messages, each given as text, as a dict, or as an object with role and content.

    Raises:
        TypeError: One is something else.
        ValueError: A role is unknown, there are none, or the last one is the assistant's.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"messages is a list of messages, not {given!r:.100}")
    messages = [_message_of(message) for message in given]
    if not messages or messages[-1].role == "assistant":
        last = "the last message is the assistant's" if messages else "there is no message"
        raise ValueError(f"{last}: the model has nothing to answer")
    return messages


def _message_of(message: Any) -> Message:
    if isinstance(message, str):
        return Message("user", str(message))
    if isinstance(message, Mapping):
        role, content = message.get("role"), message.get("content")
    else:
        role, content = getattr(message, "role", None), getattr(message, "content", None)
    if not isinstance(role, str) or not isinstance(content, str):
        raise TypeError(
            f"a message is a str, or a dict or an object with role and content, both text: "
            f"{message!r:.200}"
        )
    if role not in _ROLES:
        raise ValueError(f"the role of a message is one of {', '.join(_ROLES)}, not {role!r:.100}")
    return Message(str(role), str(content))
