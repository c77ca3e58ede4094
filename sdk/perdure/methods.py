"""What can be called on an object: a method, its arguments, and the place of its context.

Annotations are compared as text or as objects and never evaluated here, so that one which
cannot be resolved (an import under `TYPE_CHECKING`) breaks nothing.

Invariants:
  * A `Method` is built once, at registration; a call looks nothing up by reflection.
  * `Method.signature` is the remote signature: without `self` and without the context.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from perdure.codec import NotEncodable, encode
from perdure.context import DurableContext
from perdure.errors import BadArguments
from perdure.hints import did_you_mean

__all__ = ["Method", "make_method", "signature_of"]

_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_ARGUMENT: Final = re.compile(r"\[0\]\[(\d+)\](.*)|\[1\]\['(\w+)'\](.*)", re.DOTALL)
_UNEXPECTED: Final = re.compile(r".*unexpected keyword argument '(\w+)'")
_CONTEXT_NAME: Final = re.compile(r"(?:\w+\s*\.\s*)*DurableContext")
_OPTIONAL: Final = re.compile(r"(?:\w+\s*\.\s*)*(?:Optional|Union)\s*\[(.*)\]", re.DOTALL)
_MUTABLE: Final = (list, dict, set, bytearray, collections.deque)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One method of a type of object."""

    type_name: str
    name: str
    function: Callable[..., Any]
    is_async: bool
    is_shared: bool
    """It only reads: `@durable.shared`."""
    signature: inspect.Signature
    """What callers give: without `self` and without the context parameter."""
    context_parameter: str | None
    namespace: Mapping[str, Any]
    """Where the names in the text of its annotations are to be looked up."""
    check: Callable[..., None]
    """Takes a call's arguments and does nothing; raises `TypeError` as a wrong call does."""
    context_position: int | None
    """Where the context stands among the positional arguments; None: it goes by name."""
    context_by_name: bool
    fresh_defaults: Mapping[str, Any]
    """Defaults that a method could change, by parameter: each call gets a copy of its own."""

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """Return which parameter gets which argument; defaults are not filled in.

        Raises:
            TypeError: The arguments do not fit the method.
        """
        self.check(*args, **kwargs)
        return self.signature.bind(*args, **kwargs)

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return the arguments by the names of their parameters, whichever way they were given.

        Defaults are not filled in.

        Raises:
            TypeError: The arguments do not fit the method.
        """
        arguments = self.bind(args, kwargs).arguments
        for parameter in self.signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD and parameter.name in arguments:
                # The order of named arguments means nothing, that of a dict does.
                arguments[parameter.name] = sorted(arguments[parameter.name].items())
        return sorted(arguments.items())

    def invoke(
        self,
        instance: object,
        context: DurableContext,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call the method on an activation with arguments that `check` accepts.

        Returns:
            The result, or the coroutine of an async method.
        """
        name = self.context_parameter
        position = self.context_position
        if self.fresh_defaults or (position is not None and len(args) < position):
            return self._invoke_bound(instance, context, args, kwargs)
        if name is None:
            return self.function(instance, *args, **kwargs)
        if position is None:
            return self.function(instance, *args, **kwargs, **{name: context})
        return self.function(instance, *args[:position], context, *args[position:], **kwargs)

    @property
    def plain(self) -> Callable[..., Any] | None:
        """What `invoke` calls with the instance and the arguments, where it does nothing else."""
        needs_more = self.context_parameter is not None or self.fresh_defaults
        return None if needs_more else self.function

    def _invoke_bound(
        self,
        instance: object,
        context: DurableContext,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for parameter, default in self.fresh_defaults.items():
            if bound.arguments[parameter] is default:
                bound.arguments[parameter] = copy.deepcopy(default)
        given, named = list(bound.args), dict(bound.kwargs)
        if self.context_parameter is not None:
            if self.context_position is None:
                named[self.context_parameter] = context
            else:
                given.insert(self.context_position, context)
        return self.function(instance, *given, **named)

    def drop_context(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a caller's arguments without the context that it may have passed.

        Raises:
            TypeError: Something else is given under the context's name.
        """
        name = self.context_parameter
        position = self.context_position
        if name is None:
            return args, kwargs
        if (
            position is not None
            and len(args) > position
            and (args[position] is None or isinstance(args[position], DurableContext))
        ):
            args = args[:position] + args[position + 1 :]
        if self.context_by_name and name in kwargs:
            given = kwargs[name]
            if given is not None and not isinstance(given, DurableContext):
                raise TypeError(
                    f"{self.type_name}.{self.name}() takes a DurableContext as {name!r}, "
                    f"or nothing, not {type(given).__name__}"
                )
            kwargs = {key: value for key, value in kwargs.items() if key != name}
        return args, kwargs

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return a caller's arguments as they travel; empty: there are none.

        Raises:
            BadArguments: They do not fit the method, or cannot travel.
        """
        try:
            if self.context_parameter is not None:
                args, kwargs = self.drop_context(args, kwargs)
            self.check(*args, **kwargs)
            return encode([[*args], kwargs]) if args or kwargs else b""
        except NotEncodable as error:
            raise self._bad_argument(error) from None
        except TypeError as error:
            raise self.bad_arguments(error) from None

    def from_json(self, value: Any) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments that a JSON array (by position) or object (by name) means.

        Each is converted by the annotation of its parameter. A default of None admits null.

        Raises:
            BadArguments: They do not fit the method or cannot be converted.
        """
        args, kwargs = self._arguments_of_json(value)
        try:
            args_given, kwargs = self.drop_context(tuple(args), kwargs)
            bound = self.bind(args_given, kwargs)
        except TypeError as error:
            raise self.bad_arguments(error) from None
        for name, given in bound.arguments.items():
            parameter = self.signature.parameters[name]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                converted: Any = tuple(self._convert(parameter, item) for item in given)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                converted = {key: self._convert(parameter, item) for key, item in given.items()}
            else:
                converted = self._convert(parameter, given)
            bound.arguments[name] = converted
        return list(bound.args), dict(bound.kwargs)

    def bad_arguments(self, error: TypeError) -> BadArguments:
        """Return what to raise for arguments that do not fit: Python's words, and a hint."""
        text = str(error)
        match = _UNEXPECTED.match(text)
        if match:
            names = [p.name for p in self.signature.parameters.values() if p.kind in _BY_NAME]
            # Python has a guess of its own from 3.13 on, in other words than all our hints.
            text = match[0] + did_you_mean(match[1], names)
        return BadArguments(text)

    def _bad_argument(self, error: NotEncodable) -> BadArguments:
        """Return what to raise for `[args, kwargs]` of which a part cannot travel.

        It says where that is in the caller's words.
        """
        where = error.path
        if match := _ARGUMENT.fullmatch(where):
            position, rest, name, rest_named = match.groups()
            if position is None:
                where = f"{name}{rest_named}"
            else:
                names = [
                    parameter.name
                    for parameter in self.signature.parameters.values()
                    if parameter.kind in _POSITIONAL
                ]
                index = int(position)
                where = names[index] if index < len(names) else f"args[{index - len(names)}]"
                where += rest
        label = f"{self.type_name}.{self.name}()"
        return BadArguments(f"{label} argument {where}: {error.problem} cannot be sent")

    def _arguments_of_json(self, value: Any) -> tuple[list[Any], dict[str, Any]]:
        if value is None:
            return [], {}
        if isinstance(value, list):
            return value, {}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            # JSON cannot give an argument by position and another one by name.
            named = dict(value)
            args = []
            for name, parameter in self.signature.parameters.items():
                if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY or name not in named:
                    break
                args.append(named.pop(name))
            return args, named
        raise BadArguments(
            f"{self.type_name}.{self.name}() takes its arguments as a JSON array or object, "
            f"not {type(value).__name__}"
        )

    def _convert(self, parameter: inspect.Parameter, value: Any) -> Any:
        annotation = parameter.annotation
        if annotation is inspect.Parameter.empty or (value is None and parameter.default is None):
            return value
        # Imported here: only nodes get arguments as JSON.
        from perdure import jsonvalue

        try:
            return jsonvalue.convert(value, annotation, dict(self.namespace))
        except BadArguments as error:
            raise BadArguments(
                f"{self.type_name}.{self.name}() argument {parameter.name!r}: {error}"
            ) from None

    def describe(self) -> str:
        """Return the remote signature as a person would write it: `(amount: int = 1) -> dict`."""
        written = self.signature
        parameters = [
            parameter.replace(annotation=_as_written(parameter.annotation))
            for parameter in written.parameters.values()
        ]
        answer = _as_written(written.return_annotation)
        return str(written.replace(parameters=parameters, return_annotation=answer))


def make_method(type_name: str, name: str, function: Callable[..., Any]) -> Method:
    """Build the `Method` of a function in a class.

    Raises:
        TypeError: It is a generator, has two contexts or no place for `self`.
    """
    label = f"{type_name}.{name}"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{label} is a generator: return a list, or name it _{name}")
    signature = signature_of(function)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in _POSITIONAL:
        raise TypeError(f"{label} has no parameter for `self`: name it _{name} if it is a helper")
    parameters = parameters[1:]
    context = _context_parameter(label, parameters)
    remote = [parameter for parameter in parameters if parameter is not context]
    position = None
    if context is not None and context.kind in _POSITIONAL:
        position = parameters.index(context)
    return Method(
        type_name=type_name,
        name=name,
        function=function,
        is_async=inspect.iscoroutinefunction(function),
        is_shared=bool(getattr(function, "_perdure_shared", False)),
        signature=inspect.Signature(remote, return_annotation=signature.return_annotation),
        context_parameter=None if context is None else context.name,
        namespace=getattr(inspect.unwrap(function), "__globals__", {}),
        check=_checker(label, remote),
        context_position=position,
        context_by_name=(
            context is not None and context.kind is not inspect.Parameter.POSITIONAL_ONLY
        ),
        fresh_defaults={
            parameter.name: parameter.default
            for parameter in remote
            if isinstance(parameter.default, _MUTABLE)
            or (
                dataclasses.is_dataclass(parameter.default)
                and not isinstance(parameter.default, type)
            )
        },
    )


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature without evaluating its annotations."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


class _Written(str):
    """The text of an annotation, shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _as_written(annotation: Any) -> Any:
    return _Written(annotation) if isinstance(annotation, str) else annotation


def _context_parameter(
    label: str, parameters: Sequence[inspect.Parameter]
) -> inspect.Parameter | None:
    single = [
        parameter
        for parameter in parameters
        if parameter.kind in _POSITIONAL or parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    annotated = [parameter for parameter in single if _is_context(parameter.annotation)]
    if len(annotated) > 1:
        names = " and ".join(parameter.name for parameter in annotated)
        raise TypeError(f"{label} has two contexts, {names}: a method gets one")
    if annotated:
        return annotated[0]
    if parameters and parameters[0].name == "ctx" and parameters[0] in single:
        first = parameters[0]
        return first if first.annotation is inspect.Parameter.empty else None
    return None


def _is_context(annotation: object) -> bool:
    """Tell whether an annotation is `DurableContext`, alone or with None."""
    if isinstance(annotation, str):
        return _is_context_text(annotation)
    if isinstance(annotation, type):
        return issubclass(annotation, DurableContext)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        return len(parts) == 1 and _is_context(parts[0])
    forward = getattr(annotation, "__forward_arg__", None)
    return isinstance(forward, str) and _is_context_text(forward)


def _is_context_text(text: str) -> bool:
    text = text.strip().strip("'\"").strip()
    if _CONTEXT_NAME.fullmatch(text):
        return True
    if match := _OPTIONAL.fullmatch(text):
        parts = match[1].split(",")
    else:
        parts = text.split("|")
        if len(parts) == 1:
            return False
    others = [part for part in parts if part.strip() not in ("None", "")]
    return len(others) == 1 and _is_context_text(others[0])


def _checker(label: str, parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """Return an empty function with these parameters: calling it is the fastest check there is.

    Python itself then words the error, as for any wrong call.
    """
    written: list[str] = []
    slash_due = star_due = False
    star_seen = False
    for parameter in parameters:
        kind = parameter.kind
        if slash_due and kind is not inspect.Parameter.POSITIONAL_ONLY:
            written.append("/")
        slash_due = kind is inspect.Parameter.POSITIONAL_ONLY
        star_due = kind is inspect.Parameter.KEYWORD_ONLY and not star_seen
        if star_due:
            written.append("*")
            star_seen = True
        text = parameter.name
        if kind is inspect.Parameter.VAR_POSITIONAL:
            text = f"*{text}"
            star_seen = True
        elif kind is inspect.Parameter.VAR_KEYWORD:
            text = f"**{text}"
        elif parameter.default is not inspect.Parameter.empty:
            text = f"{text}=None"
        written.append(text)
    if slash_due:
        written.append("/")
    scope: dict[str, Any] = {}
    exec(f"def check({', '.join(written)}): pass", scope)
    check: types.FunctionType = scope["check"]
    check.__name__ = check.__qualname__ = label
    return check
