"""The registered types, as a partition has to know them."""

from __future__ import annotations

import math
from typing import Any, Final

import xxhash

from perdure import codec, jsonvalue
from perdure.bodies import Request
from perdure.errors import (
    BadArguments,
    BadPayload,
    Code,
    PerdureError,
    UnknownMethod,
    UnknownType,
    code_of,
)
from perdure.frames import Kind
from perdure.hints import did_you_mean
from perdure.methods import Method
from perdure.objects import ObjectType, find_type, registered_types
from perdure.workflows.definitions import WORKFLOW, find_workflow, known_workflows
from perdure.workflows.schemas import payload_of
from perdure_node.arguments import arguments_of
from perdure_node.core.calls import PLAIN, Refusal, Target
from perdure_node.core.run_rows import StartPayload
from perdure_node.core.state import DELETED

__all__ = ["Found", "Types"]

_CALL: Final = int(Kind.CALL)
_SEND: Final = int(Kind.SEND)

_FOR_EVER_S = 1e11
"""Three thousand years: the times of rows end somewhere."""

_NOT_FOR_RUNS = frozenset((Kind.GET_OR_CREATE, Kind.DELETE))


class Found:
    """What the catalog has found for a call: `Target.found`."""

    __slots__ = ("function", "method", "type")

    def __init__(self, object_type: ObjectType, method: Method | None) -> None:
        self.type: Final = object_type
        self.method: Final = method
        """None: the call is of none."""
        self.function: Final = None if method is None else method.plain
        """Looked up once, because every call asks for it."""


class Types:
    """A `core.partition.Catalog` over the types that are registered in this process."""

    def __init__(self) -> None:
        self._targets: dict[ObjectType, dict[str, Target]] = {}
        """Of the methods that have been called, by their names."""

    def find(self, request: Request) -> Target | Refusal:
        """Return what a call is for, or why there is no such thing."""
        try:
            object_type = registered_types.get(request.type) or find_type(request.type)
            kind = request.kind
            if kind in (_CALL, _SEND):
                targets = self._targets.get(object_type)
                if targets is None:
                    targets = self._targets[object_type] = {}
                target = targets.get(request.method)
                if target is None:
                    method = object_type.method(request.method)
                    target = targets[request.method] = _target(object_type, method)
            else:
                if request.type == WORKFLOW and request.kind in _NOT_FOR_RUNS:
                    hint = ": runs begin with start(workflow), and go some time after their end"
                    raise UnknownMethod(WORKFLOW, Kind(request.kind).name.lower(), hint)
                if object_type.is_function and request.kind == Kind.GET_OR_CREATE:
                    hint = ": a durable function has no objects, only calls"
                    raise UnknownMethod(object_type.name, "get_or_create", hint)
                target = PLAIN
        except (UnknownType, UnknownMethod) as error:
            return Refusal(code_of(error), error.args)
        return target

    def digest(self, request: Request) -> bytes | Refusal:
        """Return a digest of a call's arguments: of their names and values, however written."""
        method = find_type(request.type).methods[request.method]
        try:
            args, kwargs = arguments_of(method, request)
            return xxhash.xxh3_128_digest(codec.encode(method.named(args, kwargs)))
        except (BadArguments, BadPayload) as error:
            code = Code.TOO_DEEP if isinstance(error, codec.TooDeep) else code_of(error)
            return Refusal(code, error.args)

    def start(self, request: Request) -> tuple[str, bytes] | Refusal:
        """Return a workflow's version and the digest of its arguments, or why it cannot start."""
        workflow = find_workflow(request.method)
        if workflow is None:
            hint = did_you_mean(request.method, known_workflows())
            return Refusal(Code.UNKNOWN_METHOD, (WORKFLOW, request.method, hint))
        try:
            arguments = StartPayload.of(request).arguments
            inner = request.with_arguments(request.kind, arguments)
            args, kwargs = arguments_of(workflow.method, inner)
            named = codec.encode(workflow.method.named(args, kwargs))
        except (BadArguments, BadPayload, TypeError) as error:
            code = code_of(error) if isinstance(error, PerdureError) else Code.MALFORMED
            return Refusal(code, (str(error),))
        return workflow.version, xxhash.xxh3_128_digest(named)

    def retention_ms(self, workflow: str) -> int | None:
        """Return how long runs of a workflow stay after their end; None: as the limit says."""
        found = find_workflow(workflow)
        seconds = None if found is None else found.retention_s
        if seconds is None:
            return None
        return -1 if seconds > _FOR_EVER_S else math.ceil(1_000 * seconds)

    def payload(self, token: str, schema: str, payload: bytes, encoding: int) -> bytes | Refusal:
        """Return what a hook of this schema gets for a payload, or what is wrong with it."""
        try:
            return payload_of(schema, payload, encoding)
        except BadPayload as error:
            return Refusal(Code.BAD_HOOK_PAYLOAD, (f"the hook {token!r}: {error}",))
        except UnknownType as error:
            return Refusal(Code.UNKNOWN_TYPE, error.args)

    def as_json(self, value: bytes) -> bytes | Refusal:
        """Return a value as JSON, or why it cannot be shown."""
        try:
            return jsonvalue.to_json(codec.decode(value))
        except UnknownType as error:
            return Refusal(code_of(error), error.args)
        except codec.NotEncodable as error:
            return Refusal(
                Code.RESULT_NOT_STORABLE, (f"the result as JSON{error.path}", error.problem)
            )

    def show(self, image: dict[str, bytes]) -> bytes | Refusal:
        """Return a state as a JSON object, or why it cannot be shown."""
        try:
            state: dict[str, Any] = {
                name: codec.decode(value) for name, value in image.items() if value != DELETED
            }
            return jsonvalue.to_json(state)
        except UnknownType as error:
            return Refusal(Code.UNKNOWN_TYPE, error.args)
        except codec.NotEncodable as error:
            return Refusal(
                Code.RESULT_NOT_STORABLE, (f"the state as JSON{error.path}", error.problem)
            )


def _target(object_type: ObjectType, method: Method) -> Target:
    found = Found(object_type, method)
    if object_type.is_function:
        return Target(shared=False, deferred=False, stateless=True, found=found)
    if object_type.made_by_calls:
        return Target(shared=False, deferred=False, made_by_calls=True, found=found)
    deferred = object_type.persist == "on_save"
    return Target(shared=method.is_shared, deferred=deferred, found=found)
