"""Misspelt names are answered with the name that was meant."""

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


def suggest(name: str, choices: Iterable[str], otherwise: str) -> str:
    """A question for the choice that looks most like a name, or else some advice."""
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.4)
    return f"Did you mean {near[0]!r}?" if near else otherwise


def reject_unknown_kwargs(
    also: Callable[[], Iterable[str]] = tuple, meant: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Function], Function]:
    """Refuse keyword arguments that a function does not have, and name the one that is nearest.

    Parameters
    ----------
    also : callable
        Gives names that are passed on by the function's ``**keywords``.
    meant : mapping
        Names that the function does not have, and what it has instead.
    """

    def decorate(function: Function) -> Function:
        parameters = signature(function).parameters.values()
        own = [
            of.name
            for of in parameters
            if of.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        ]

        @wraps(function)
        def checked(*arguments: Any, **keywords: Any) -> Any:
            for name in keywords.keys() - own:
                known = [*own[1:], *(other for other in also() if other not in meant)]
                if name in known:
                    continue
                see = f"See help({function.__name__})."
                instead = meant.get(name, name)
                if instead in meant.values():  # of another method
                    near = f"Did you mean {instead!r}?" if instead in known else see
                else:
                    near = suggest(instead, known, see)
                raise ArgumentError(
                    f"unknown argument of {function.__name__}",
                    expected=f"one of {', '.join(known)}",
                    received=repr(name),
                    advice=near,
                )
            return function(*arguments, **keywords)

        return checked  # type: ignore[return-value]

    return decorate
