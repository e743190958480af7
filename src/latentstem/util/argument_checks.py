"""Rejection of misspelt argument names."""

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
    """Did you mean ...? with the closest choice, or `fallback` if none is close."""
    closest = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.4)
    return f"Did you mean {closest[0]!r}?" if closest else fallback


def reject_unknown_kwargs(
    accepted: Callable[[], Iterable[str]] = tuple, aliases: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Function], Function]:
    """Reject unknown keyword arguments and suggest the closest known one.

    Parameters
    ----------
    accepted : callable
        Returns further argument names that ``**kwargs`` may contain.
    aliases : mapping
        Names used elsewhere, and the name of the same argument here.
    """

    def decorate(function: Function) -> Function:
        parameter_names = [
            parameter.name
            for parameter in signature(function).parameters.values()
            if parameter.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        ]

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs.keys() - parameter_names:
                known = [*parameter_names[1:], *(other for other in accepted() if other not in aliases)]
                if name in known:
                    continue
                see_help = f"See help({function.__name__})."
                alias_of = aliases.get(name, name)
                if alias_of in aliases.values():  # of another method
                    advice = f"Did you mean {alias_of!r}?" if alias_of in known else see_help
                else:
                    advice = suggest(alias_of, known, see_help)
                raise ArgumentError(
                    f"unknown argument of {function.__name__}",
                    expected=f"one of {', '.join(known)}",
                    received=repr(name),
                    advice=advice,
                )
            return function(*args, **kwargs)

        return checked  # type: ignore[return-value]

    return decorate
