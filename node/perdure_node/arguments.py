"""The arguments of a call, as its method gets them."""

from __future__ import annotations

from typing import Any, Final

from perdure import codec, jsonvalue
from perdure.bodies import Request
from perdure.errors import BadArguments, BadPayload, UnknownType
from perdure.frames import Encoding
from perdure.objects import Method

__all__ = ["arguments_of"]


_JSON: Final = int(Encoding.JSON)
"""Members of an enum cost ten times as much to look up."""
_NO_ARGUMENTS: Final = "arguments are [positional list, named dict]"


def arguments_of(method: Method, request: Request) -> tuple[list[Any], dict[str, Any]]:
    """Return a call's arguments, which fit its method.

    Raises:
        BadArguments: They do not fit.
        BadPayload: They are no arguments at all.
    """
    if request.encoding == _JSON:
        try:
            value = jsonvalue.from_json(request.arguments) if request.arguments else None
        except UnknownType as error:
            raise BadArguments(str(error)) from None
        return method.from_json(value)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    if request.arguments:
        try:
            decoded = codec.decode(request.arguments)
        except UnknownType as error:
            raise BadArguments(str(error)) from None
        if type(decoded) is not list or len(decoded) != 2:
            raise BadPayload(_NO_ARGUMENTS)
        args, kwargs = decoded
        if type(args) is not list or type(kwargs) is not dict:
            raise BadPayload(_NO_ARGUMENTS)
    try:
        method.check(*args, **kwargs)
    except TypeError as error:
        raise method.bad_arguments(error) from None
    return args, kwargs
