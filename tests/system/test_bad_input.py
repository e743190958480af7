"""A slice of the matrix of inputs; all of it: ``python -m benchmarks.reliability --only inputs``."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from benchmarks.reliability import inputs
from benchmarks.reliability.cells import bad_message, outcome
from benchmarks.reliability.matrix import every

import latentstem
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


def cells():
    found = {cell.name: cell for cell in every()}
    chosen = [found[name] for name in _TRAINED]
    cheap = [
        cell
        for cell in found.values()
        if cell.expected == "error" and not any(word in cell.name for word in _SLOW)
    ]
    return chosen + cheap[::4]


@pytest.fixture(scope="module")
def known():
    """Latents of cells that others are compared with."""
    return {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", cells(), ids=lambda cell: cell.name.encode("ascii", "replace").decode())
def test_every_input_ends_in_a_result_or_in_a_sentence_that_helps(cell, known):
    ended = outcome(cell, known)
    assert not ended.startswith("WRONG"), ended


def test_the_judgement_of_a_message():
    good = {"what": "no", "expected": "this", "received": "that", "advice": "Do so."}
    assert bad_message(LatentSTEMError(**good)) == ""
    for change in ({"received": ""}, {"advice": "do"}, {"received": "<x at 0x7f12>"}, {"expected": "{ge}"}):
        bad = {**good, **change}
        assert bad_message(LatentSTEMError(bad.pop("what"), **bad))


def test_the_page_counts_what_cells_ended_in():
    values = {"families": {"masks": {"result": 2, "MaskError": 3}}, "wrong": {}}
    page = inputs.section(values)
    assert "5 inputs" in page
    assert "| masks | 5 | 2 | 3 | 0 |" in page


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
