"""Options are the keyword arguments of what they configure: read from its signature, nothing declared twice."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from lvmbench.calls import UNNAMED
from lvmbench.errors import PluginError, UsageError, nearest


def option_model(target: Callable[..., Any]) -> type[BaseModel]:
    """Return a pydantic model of the options of a class or function: its keyword arguments with defaults.

    A constructor with ``**options`` also has the options of the next constructor in its line.

    Raises:
        PluginError: if an annotation cannot be read.
    """
    return _known(target) if isinstance(target, Hashable) else _option_model(target)


@cache
def _known(target: Callable[..., Any]) -> type[BaseModel]:
    return _option_model(target)


def _option_model(target: Callable[..., Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for function in _constructors(target):
        parameters = inspect.signature(function).parameters.values()
        for p in parameters:
            if p.kind is p.KEYWORD_ONLY or (p.default is not p.empty and p.kind is p.POSITIONAL_OR_KEYWORD):
                default = ... if p.default is p.empty else p.default
                fields.setdefault(p.name, (_annotation(function, p), default))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
    return create_model(getattr(target, "__name__", "options"), __config__=config, **fields)


def _constructors(target: Callable[..., Any]) -> list[Callable[..., Any]]:
    if not isinstance(target, type):
        return [target]
    own = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c) and c is not object]
    return own or [lambda: None]


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    if parameter.annotation is parameter.empty:
        return Any
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    try:
        return eval(parameter.annotation, getattr(function, "__globals__", {}))  # the plugin's own source
    except Exception as error:
        where = f"{function.__module__}.{function.__qualname__}"
        raise PluginError(
            f"{where}: the type of option '{parameter.name}' cannot be read: {parameter.annotation} ({error})"
        ) from error


def resolve(name: str, target: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options with defaults filled in; a value without a name is of the option that must be given.

    Raises:
        UsageError: if an option does not exist or its value is out of range; all of them in one message.
    """
    model = option_model(target)
    given = _named(name, model, given)
    try:
        return model(**given).model_dump()
    except ValidationError as error:
        raise UsageError(" ".join(_explain(name, model, problem) for problem in error.errors())) from None


def _named(name: str, model: type[BaseModel], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the given options, each under its name."""
    if UNNAMED not in given:
        return given
    required = [option for option, field in model.model_fields.items() if field.is_required()]
    if len(required) != 1 or required[0] in given:
        value = given[UNNAMED]
        raise UsageError(
            f"{name}: {value!r} needs the name of its option: option={value}. {describe(name, model)}"
        )
    return {required[0]: given[UNNAMED], **{k: v for k, v in given.items() if k != UNNAMED}}


def _explain(name: str, model: type[BaseModel], problem: Mapping[str, Any]) -> str:
    option = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return (
            f"{name} has no option '{option}'.{nearest(option, model.model_fields)} {describe(name, model)}"
        )
    if problem["type"] == "missing":
        return f"{name} needs the option '{option}': {name}({option}=...)."
    told = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"]
    return f"{name}: {option} = {problem['input']!r}: {told.rstrip('.')}."


def describe(name: str, model: type[BaseModel]) -> str:
    """Return the options with their defaults in one sentence."""
    if not model.model_fields:
        return f"{name} has no options."
    fields = model.model_fields.items()
    listed = ", ".join(key if f.is_required() else f"{key}={f.get_default()!r}" for key, f in fields)
    return f"Its options: {listed}."
