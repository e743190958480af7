"""Names of weights in checkpoints, which stay when attributes are renamed."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["keep_stored_names"]


def keep_stored_names(module: nn.Module, stored_prefixes: dict[str, str]) -> None:
    """Save and load the weights of a module under other names than its attributes have.

    Parameters
    ----------
    module : nn.Module
        Its ``state_dict`` and ``load_state_dict`` change.
    stored_prefixes : dict of str to str
        Prefix of a name, such as ``"encoder_mlp."``, and the prefix in checkpoints.
    """
    module.register_state_dict_post_hook(_Renaming(stored_prefixes))
    attribute_prefixes = {stored: attribute for attribute, stored in stored_prefixes.items()}
    module.register_load_state_dict_pre_hook(_Renaming(attribute_prefixes))


class _Renaming:
    """Rename entries of a state dict in place, whatever prefix a parent module gives them."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for name in list(state):
            if name.startswith(prefix):
                suffix = name[len(prefix) :]
                start = next((start for start in self._names if suffix.startswith(start)), None)
                if start is not None:
                    state[prefix + self._names[start] + suffix[len(start) :]] = state.pop(name)
