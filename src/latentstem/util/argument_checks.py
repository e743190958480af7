"""Reject unknown argument names, and suggest the closest known one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Any, TypeVar

from ..errors import ArgumentError

__all__ = ["reject_unknown_kwargs", "suggest"]

Function = TypeVar("Function", bound=Callable[..., Any])


def suggest(name: str, choices: Iterable[str], fallback: str) -> str:
    """The sentence ``Did you mean ...?`` with the closest choice, or `fallback` if none is close."""
    closest = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.4)
    return f"Did you mean {closest[0]!r}?" if closest else fallback


def reject_unknown_kwargs(
    further_names: Callable[[], Iterable[str]] = tuple, aliases: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Function], Function]:
    """Reject unknown keyword arguments and suggest the closest known one.

    Parameters
    ----------
    further_names : callable
        Returns the argument names that ``**kwargs`` may contain besides the named parameters.
    aliases : mapping
        Names that an argument has in other functions, and its name in this one.
    """

    def decorate(function: Function) -> Function:
        named = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        parameter_names = [name for name, p in signature(function).parameters.items() if p.kind in named]

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs.keys() - parameter_names:
                known_names = [*parameter_names[1:], *(n for n in further_names() if n not in aliases)]
                if name in known_names:
                    continue
                see_help = f"See help({function.__name__})."
                name_here = aliases.get(name, name)
                # an argument of other methods, but perhaps not of this one, is no misspelt one
                choices = [name_here] if name_here in aliases.values() else known_names
                advice = suggest(name_here, [n for n in choices if n in known_names], see_help)
                raise ArgumentError(
                    f"unknown argument of {function.__name__}",
                    expected=f"one of {', '.join(known_names)}",
                    received=repr(name),
                    advice=advice,
                )
            return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate
