"""What the payloads of hooks have to be: any type that pydantic can check."""

from __future__ import annotations

import json
from typing import Any, Final

from perdure import codec, jsonvalue, values
from perdure.errors import BadPayload, UnknownType
from perdure.frames import Encoding

__all__ = ["Schema", "find_schema", "payload_of", "schema_of"]

_ERRORS_MAX: Final = 10
_Class: Final = type

_schemas: dict[str, Schema] = {}


class Schema:
    """One type of payloads."""

    def __init__(self, name: str, type: Any) -> None:
        from pydantic import TypeAdapter

        self.name = name
        """By which nodes find it."""
        self.type = type
        self._adapter: TypeAdapter[Any] = TypeAdapter(type)
        self.described = json.dumps(self._json_schema()).encode()
        """As JSON schema, for callers in other languages."""

    def _json_schema(self) -> Any:
        from pydantic.errors import PydanticInvalidForJsonSchema

        try:
            return self._adapter.json_schema()
        except PydanticInvalidForJsonSchema:
            return {}

    def check(self, value: object) -> Any:
        """Return a payload as the workflow gets it: converted, defaults filled in.

        Raises:
            BadPayload: It is none. The text names the fields.
        """
        from pydantic import ValidationError

        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            lines = [
                f"{'.'.join(map(str, e['loc'])) or 'payload'}: {e['msg']}"
                for e in error.errors(include_url=False, include_input=False, include_context=False)
            ]
            text = "; ".join(lines[:_ERRORS_MAX])
            raise BadPayload(f"this is no {self.name}: {text}") from None


def schema_of(type: Any, name: str | None) -> Schema | None:
    """Return the schema of a type, which is known from now on; None: anything goes.

    Raises:
        TypeError: pydantic cannot check it, or another file has a class of that name.
    """
    if type is None or type is Any:
        return None
    for cls in _classes_in(type):
        values.register(cls)
    known: str = repr(type) if name is None else name
    if name is None and not getattr(type, "__args__", None):
        known = getattr(type, "__qualname__", "").rpartition("<locals>.")[2] or known
    earlier = _schemas.get(known)
    if earlier is not None and earlier.type is type:
        return earlier
    made = _schemas[known] = Schema(known, type)
    return made


def find_schema(name: str) -> Schema | None:
    """Return the schema of a name; None: this process knows none."""
    return _schemas.get(name)


def payload_of(schema: str, payload: bytes, encoding: int) -> bytes:
    """Return what a hook gets for a payload that came from outside, encoded.

    Args:
        schema: The name of what it has to be; empty: anything.
        payload: What came. Empty: None.
        encoding: How it is written.

    Raises:
        BadPayload: It is something else.
        UnknownType: This process does not know the schema, or a class in the payload.
    """
    if not payload:
        value: Any = None
    elif encoding == Encoding.JSON:
        value = jsonvalue.from_json(payload)
    else:
        value = codec.decode(payload)
    if schema:
        found = find_schema(schema)
        if found is None:
            raise UnknownType(schema, ": no hook with such payloads is defined here")
        value = found.check(value)
    elif encoding == Encoding.MSGPACK and payload:
        return payload
    try:
        return codec.encode(value)
    except codec.NotEncodable as error:
        raise BadPayload(f"the payload{error.path}: {error.problem} cannot be stored") from None


def _classes_in(type: Any) -> list[Any]:
    found: list[Any] = []
    if isinstance(type, _Class) and values.kind_of(type) is not None:
        found.append(type)
    for part in getattr(type, "__args__", ()):
        found += _classes_in(part)
    return found
