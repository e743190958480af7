"""Some of the good and bad inputs; all of them: ``python -m benchmarks.reliability --only inputs``."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import latentstem
from hostile.cases import bad_message, outcome
from hostile.input_cases import all_cases
from latentstem import errors
from latentstem.errors import LatentSTEMError

_TRAINED = (  # these take a training each
    "dtype and layout: <u2, C",
    "dtype and layout: >f4, negative strides",
    "dtype and layout: i1, Fortran",
    "dtype and layout: longdouble, sliced",
    "values: NaN, masked island",
    "values: 1e300, masked pixels",
    "values: one pattern everywhere",
    "values: uint64 above 2^63",
    "values: negative counts",
    "shapes: (1, 2, 20, 16), {'context': 3}",
    "masks: scan, all but two",
    "arguments: {'learning_rate': 10}",
)
_SLOW = ("cli: demo", "report without", "lazy", "dask")


def some_cases():
    found = {case.name: case for case in all_cases()}
    chosen = [found[name] for name in _TRAINED]
    cheap = [
        case
        for case in found.values()
        if case.expected == "error" and not any(word in case.name for word in _SLOW)
    ]
    return chosen + cheap[::4]


@pytest.fixture(scope="module")
def known():
    """Latents of cases that others are compared with."""
    return {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", some_cases(), ids=lambda case: case.name.encode("ascii", "replace").decode())
def test_every_input_ends_in_a_result_or_an_error_that_helps(case, known):
    ended = outcome(case, known)
    assert not ended.startswith("WRONG"), ended


def test_the_judgement_of_a_message():
    good = {"what": "no", "expected": "this", "received": "that", "advice": "Do so."}
    assert bad_message(LatentSTEMError(**good)) == ""
    for change in ({"received": ""}, {"advice": "do"}, {"received": "<x at 0x7f12>"}, {"expected": "{ge}"}):
        bad = {**good, **change}
        assert bad_message(LatentSTEMError(bad.pop("what"), **bad))


def test_every_error_is_an_error_of_python_too():
    kinds = [
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, LatentSTEMError)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        assert kind is LatentSTEMError or issubclass(kind, (ValueError, TypeError))
        assert kind.__doc__
        assert "__init__" not in vars(kind) or kind is LatentSTEMError


def test_reconstructions_of_nan_are_refused_block_by_block(scan):
    model = latentstem.train_autoencoder(scan, max_patterns=64, latent_dim=2, progress=False)
    data = scan.astype(float)
    data[11, 9, 3, 4] = np.nan
    with pytest.raises(errors.DataValueError, match=r"1 of \d+ patterns.*scan_mask"):
        model.reconstruct(data)
    mask = ~np.isfinite(data).all(axis=(2, 3))
    assert np.isfinite(model.reconstruct(data, scan_mask=mask)).all((2, 3)).sum() == 119
