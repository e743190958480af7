"""A series of scans: one model of all of them, nothing mixed up between them, results for each."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import latentstem
from helpers import train
from latentstem import as_scan
from latentstem.errors import (
    ArgumentError,
    DataValueError,
    FileError,
    MaskError,
    PatternShapeError,
    ScanDimensionError,
    ScanShapeError,
    UnsupportedDataError,
)
from latentstem.nn.neighbourhood import NeighbourPositions
from latentstem.report.report import evidence
from latentstem.scan.quality import measure_quality
from latentstem.scan.series import Series, make_series, require_single_scan
from latentstem.training.data_module import in_memory, split_positions

SHAPE = (7, 5, 32, 24)


def counts(shape=SHAPE, seed=0, dtype=np.uint16):
    return np.random.default_rng(seed).poisson(3, shape).astype(dtype)


@pytest.fixture(scope="module")
def other():
    """Counts (7, 14, 16, 20) of the specimen of `scan`, at another place."""
    made = latentstem.simulate((7, 14), (16, 20), dose=300, n_grains=3, seed=1).counts.astype(np.float32)
    made.flags.writeable = False
    return made


@pytest.fixture(scope="module")
def model(scan, other):
    return train([scan, other])


@st.composite
def series(draw):
    sizes = st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda size: size[0] * size[1] > 1)
    scans = []
    for number, size in enumerate(draw(st.lists(sizes, min_size=1, max_size=4))):
        data = counts((*size, 8, 9), number, draw(st.sampled_from(["u1", "u2", ">i4", "f4"])))
        if draw(st.booleans()):
            data = da.from_array(data, chunks=(3, 2, 8, 9))
        mask = np.random.default_rng(number).random(size) < draw(st.sampled_from([0, 0.5]))
        mask.flat[:2] = False
        scans.append(as_scan(data, size, scan_mask=mask))
    return scans


@settings(max_examples=40, deadline=None)
@given(scans=series(), most=st.integers(1, 30), fraction=st.floats(0.01, 0.89))
def test_the_canvas_is_the_scans(scans, most, fraction):
    whole = make_series(scans)
    blocks = list(whole.blocks(most))
    every = np.concatenate(blocks)
    wanted = np.concatenate([scan.read(block) for scan in scans for block in scan.blocks(most)])
    np.testing.assert_array_equal(whole.read(every), wanted)
    assert whole.dtype == np.result_type(*(scan.dtype for scan in scans))
    shuffled = np.random.default_rng(0).permutation(len(every))
    np.testing.assert_array_equal(whole.read(every[shuffled]), wanted[shuffled])
    assert len(np.unique(every)) == len(every) == sum(scan.n_positions for scan in scans)
    between = np.setdiff1d(np.arange(whole.n_positions), every)
    assert whole.scan_mask.ravel()[between].all()
    for region, scan in zip(whole.regions, scans, strict=True):
        np.testing.assert_array_equal(region.crop(whole.scan_mask), scan.scan_mask)
        inside = region.crop(np.arange(whole.n_positions).reshape(whole.scan_shape)).ravel()
        exists, near = NeighbourPositions(whole.scan_mask, 3)(inside)
        assert np.isin(near[exists], inside).all()
        alone, _ = NeighbourPositions(scan.scan_mask, 3)(np.arange(len(inside)))
        np.testing.assert_array_equal(exists, alone)
    parts = split_positions(whole, fraction, 3)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.flatnonzero(~whole.scan_mask))
    for region in whole.regions:
        held_out = np.isin(np.arange(whole.n_positions).reshape(whole.scan_shape), parts[1])
        assert region.crop(held_out).any()


def test_scans_of_one_position_are_trained_on():
    mask = np.ones((7, 5), bool)
    mask[2, 3] = False
    whole = as_scan([counts(), counts(seed=1)], scan_mask=[mask, mask])
    training, validation = split_positions(whole, 0.1, 0)
    assert (len(training), len(validation)) == (1, 1)


# ---- one model, and results for each scan


def test_each_scan_is_embedded_as_it_is_alone(model, scan, other):
    embeddings = model.embed([scan, other])
    assert [embedding.maps.shape for embedding in embeddings] == [(12, 10, 4), (7, 14, 4)]
    for embedding, data in zip(embeddings, (scan, other), strict=True):
        np.testing.assert_array_equal(embedding.maps, model.embed(data).maps)
    rebuilt = latentstem.reconstruct((scan, other), model)
    for patterns, data in zip(rebuilt, (scan, other), strict=True):
        np.testing.assert_array_equal(patterns, model.reconstruct(data))
    assert [e.provenance["applied_to"]["name"] for e in embeddings] == ["scan_0", "scan_1"]


def test_the_model_learns_from_every_scan(scan, other):
    """A scan beside a blank one is learnt as if it were alone."""
    blank = np.zeros_like(scan)
    blank[0, 0] = 1
    arguments = {"context": 0, "epochs": 6, "learning_rate": 3e-3}
    both = train([blank, scan], **arguments)
    alone = train(scan, **arguments)
    losses = [float(np.mean((m.reconstruct(scan) - scan) ** 2)) for m in (both, alone)]
    assert losses[0] < 1.2 * losses[1]


def test_signature_and_resuming(model, scan, other, tmp_path):
    stored = model.scan_signature
    assert [part["scan_shape"] for part in stored["scans"]] == [[12, 10], [7, 14]]
    assert [part["dtype"] for part in stored["scans"]] == ["uint16", "float32"]
    json.dumps(model.describe())
    train([scan, other], epochs=2, output_dir=tmp_path)
    resumed = train([scan, other], epochs=3, resume_from=tmp_path / "checkpoints" / "last.ckpt")
    np.testing.assert_allclose(
        resumed.history["train/loss"][:2], model.history["train/loss"][:2], rtol=0.2
    )  # of another length of schedule
    with pytest.raises(
        latentstem.errors.ModelMismatchError, match="differs from the one of the run to resume"
    ):
        train([other, other], epochs=3, resume_from=tmp_path / "checkpoints" / "last.ckpt")


def test_masks_of_each_scan(model, scan, other):
    mask = np.zeros((7, 14), bool)
    mask[2:4, 3] = True
    first, second = model.embed([scan, other], scan_mask=[None, mask])
    assert not np.isnan(first.maps).any()
    np.testing.assert_array_equal(np.isnan(second.maps[..., 0]), mask)
    np.testing.assert_array_equal(second.maps, model.embed(other, scan_mask=mask).maps)


def test_files_of_each_scan_are_checked_before_the_work(model, scan, other, tmp_path, monkeypatch):
    first, second = model.reconstruct([scan, other], out=[tmp_path / "a.npy", None])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), first)
    assert second.shape == other.shape
    monkeypatch.setattr(type(model), "open_matching_scan", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(FileError, match=r"a\.npy, which exists already"):
        model.reconstruct([scan, other], out=[tmp_path / "b.npy", tmp_path / "a.npy"])
    with pytest.raises(ArgumentError, match=r"b\.npy twice"):
        model.reconstruct([scan, other], out=[tmp_path / "b.npy", tmp_path / "b.npy"])
    with pytest.raises(ArgumentError, match=r"out does not fit the series: expected a list of 2"):
        model.reconstruct([scan, other], out=tmp_path / "b.npy")


def test_evidence_of_a_series(model, scan, other):
    found = evidence(model, [scan, other])
    assert found["comparison"]["same_scan"]
    assert np.isfinite(found["residual"]["largest"])


# ---- arrays of five dimensions


@pytest.mark.parametrize("kind", ["numpy", "npy", "contiguous", "chunked", "zarr", "dask", "torch"])
def test_arrays_of_five_dimensions(kind, tmp_path):
    import torch

    data = counts((3, *SHAPE))
    if kind == "npy":
        np.save(tmp_path / "movie.npy", data)
    elif kind == "contiguous" or kind == "chunked":
        chunks = (2, 3, 2, 32, 24) if kind == "chunked" else None
        with h5py.File(tmp_path / "movie.h5", "w") as file:
            file.create_dataset("data", data=data, chunks=chunks)
    made = {
        "numpy": lambda: data,
        "npy": lambda: tmp_path / "movie.npy",
        "contiguous": lambda: tmp_path / "movie.h5",
        "chunked": lambda: tmp_path / "movie.h5",
        "zarr": lambda: zarr.array(data, chunks=(2, 3, 2, 32, 24)),
        "dask": lambda: da.from_array(data, chunks=(2, 3, 2, 32, 24)),
        "torch": lambda: torch.from_numpy(data.astype("int32")),
    }[kind]()
    whole = as_scan(made)
    assert isinstance(whole, Series)
    again = [pickle.loads(pickle.dumps(part.source)) for part in whole.scans]  # as loader processes get them
    for number, (part, source) in enumerate(zip(whole.scans, again, strict=True)):
        flat = np.arange(35)
        np.testing.assert_array_equal(part.read(flat).reshape(SHAPE), data[number])
        np.testing.assert_array_equal(source.read(flat).reshape(SHAPE), data[number])
    if kind in ("npy", "chunked"):
        assert [part.name for part in whole.scans] == ["movie_0", "movie_1", "movie_2"]
    assert (whole.source.array is None) == (kind in ("chunked", "zarr", "dask"))
    held = in_memory(whole)
    assert held.source.array is not None
    np.testing.assert_array_equal(held.read(np.arange(60)), whole.read(np.arange(60)))


def test_a_column_of_five_dimensions_is_one_scan_still():
    assert not isinstance(as_scan(counts((7, 5, 1, 32, 24))), Series)


def test_streamed_series_with_loader_processes(tmp_path, monkeypatch, scan, other):
    """As from files that are larger than the memory."""
    from latentstem.training import data_module as data
    from latentstem.training import run

    for name, values in (("a", scan), ("b", other)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("data", data=values, chunks=(5, 4, 16, 20))
    whole = as_scan([tmp_path / "a.h5", tmp_path / "b.h5"])
    monkeypatch.setattr(run, "in_memory", lambda scan: scan)
    model = train(whole, workers=1, epochs=1)
    assert [part["name"] for part in model.scan_signature["scans"]] == ["a", "b"]
    assert data.in_memory(whole).source.array is not None


# ---- what is told


def test_findings_name_the_scan(scan, other):
    spoilt = scan.copy()
    spoilt[3, 4] = 0
    told = "\n".join(measure_quality(as_scan([spoilt, other])).lines())
    assert "Series of 2 scans (12 x 10, 7 x 14) of 16 x 20 patterns" in told
    assert "1 empty pattern, at (3, 4) of 'scan_0'" in told
    spoilt = other.copy()
    spoilt[1, 2, 3, 4] = np.nan
    with pytest.raises(DataValueError, match=r"scan positions \(1, 2\) of 'scan_1'"):
        measure_quality(as_scan([scan, spoilt]))


def test_what_makes_no_series():
    a, b = counts(), counts((7, 5, 24, 32))
    cases = (
        (PatternShapeError, r"32 x 24 pixels, as in scan 0 .*24 x 32 pixels in scan 1", [a, b], {}),
        (ArgumentError, "an empty series", [], {}),
        (UnsupportedDataError, "in scan 1 of 2.*received builtins.int", [a, 3], {}),
        (ScanShapeError, "needs scan_shape, in scan 1 of 2", [a, a[0]], {}),
        (ArgumentError, "scan_shape does not fit.*list of 2", [a, a], {"scan_shape": [None]}),
        (MaskError, r"scan_mask does not fit.*shape \(7, 5\)", [a, a], {"scan_mask": np.zeros((7, 5), bool)}),
        (MaskError, "scan_mask does not fit.*1 of them", [a, a], {"scan_mask": [None]}),
        (MaskError, "in scan 1 of 2", [a, a], {"scan_mask": [None, np.zeros((5, 7), bool)]}),
    )
    for kind, message, data, arguments in cases:
        with pytest.raises(kind, match=message):
            as_scan(data, **arguments)
    with pytest.raises(ScanDimensionError, match=r"expected one scan.*with 2.*Select one"):
        require_single_scan(as_scan([a, a]))


def test_scan_shapes_one_for_all_or_a_list():
    stack = counts((35, 32, 24))
    assert [s.scan_shape for s in as_scan([stack, stack], (7, 5)).scans] == [(7, 5), (7, 5)]
    shapes = [s.scan_shape for s in as_scan([stack, stack, counts()], [(7, 5), (5, 7), None]).scans]
    assert shapes == [(7, 5), (5, 7), (7, 5)]


def test_calibration_that_the_scans_share_is_kept():
    one = as_scan(counts())
    other = replace(one, axes=tuple(replace(axis, scale=0.5, units="nm") for axis in one.axes))
    assert make_series([other, other]).axes[2:] == other.axes[2:]
    mixed = make_series([one, other])
    assert mixed.axes[2].units == ""
    assert mixed.scans[1].axes == other.axes
