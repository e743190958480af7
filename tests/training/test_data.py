"""Which patterns a step sees: the split, the neighbours, the order, and the way from chunked storage."""

from __future__ import annotations

from itertools import chain

import dask.array as da
import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from latentstem import as_scan
from latentstem.context import Context
from latentstem.errors import MaskError
from latentstem.preprocessing import Detector
from latentstem.training import data as module
from latentstem.training.counts import split_counts
from latentstem.training.data import ScanDataModule, in_memory, split_positions
from latentstem.training.reader import PatternReader

SHAPE = (7, 5, 32, 24)


def counts(shape=SHAPE, seed=0):
    """Noise, brighter in the fourth to sixth column of the scan, and so on."""
    mean = np.where(np.arange(shape[1]) // 3 % 2, 9, 3)[:, None, None]
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.uint16)


@st.composite
def masked_scans(draw):
    ny, nx = draw(st.integers(1, 13)), draw(st.integers(2, 13))
    mask = np.random.default_rng(draw(st.integers(0, 99))).random((ny, nx)) < draw(
        st.sampled_from([0, 0.3, 0.8])
    )
    mask.flat[:2] = False
    return as_scan(counts((ny, nx, 8, 9)), scan_mask=mask)


# ---- the split ----


@settings(max_examples=60, deadline=None)
@given(scan=masked_scans(), fraction=st.floats(0.01, 0.89), seed=st.integers(0, 99))
def test_split_is_disjoint_complete_reproducible_and_honours_the_mask(scan, fraction, seed):
    training, validation = split_positions(scan, fraction, seed)
    both = np.concatenate([training, validation])
    assert len(training)
    assert len(validation)
    np.testing.assert_array_equal(np.sort(both), np.flatnonzero(~scan.scan_mask))
    for one, again in zip((training, validation), split_positions(scan, fraction, seed), strict=True):
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize(("scan_shape", "fraction"), [((40, 50), 0.1), ((12, 90), 0.3), ((64, 64), 0.05)])
def test_validation_positions_are_blocks_of_the_share_that_was_asked_for(scan_shape, fraction):
    scan = as_scan(np.broadcast_to(counts((1, 1, 8, 8)), (*scan_shape, 8, 8)))
    _, validation = split_positions(scan, fraction, 0)
    held_out = np.zeros(scan_shape, bool)
    held_out.flat[validation] = True
    assert held_out.mean() == pytest.approx(fraction, rel=0.25)
    sizes = np.bincount(label(held_out)[0].ravel())[1:]
    assert np.median(sizes) >= 4
    inside = [held_out[y : y + 2, x : x + 2].all() for y, x in np.argwhere(held_out)]
    assert np.mean(inside) > 0.2
    assert len(sizes) >= 3  # not one corner of the specimen


def test_another_seed_is_another_split():
    scan = as_scan(counts((12, 10, 8, 8)))
    assert set(split_positions(scan, 0.1, 0)[1]) != set(split_positions(scan, 0.1, 1)[1])


def test_one_position_cannot_be_split():
    mask = np.ones((7, 5), bool)
    mask[3, 2] = False
    with pytest.raises(MaskError, match=r"at least 2 positions.*received 1 of 35"):
        split_positions(as_scan(counts(), scan_mask=mask), 0.1, 0)


# ---- neighbours ----


def reader(scan, radius, *, choosy=False, **arguments):
    """All neighbours are taken for alike, or those of like brightness."""
    context = Context(Detector(scan.pattern_shape), radius)
    if choosy:
        context.directions.fill_(1.0)
    return PatternReader(scan, context, **arguments)


def neighbours_of(patterns, excluded, position, radius):
    ny, nx = patterns.shape[:2]
    y, x = divmod(int(position), nx)
    return [
        patterns[j, i].astype(float)
        for j in range(max(0, y - radius), min(ny, y + radius + 1))
        for i in range(max(0, x - radius), min(nx, x + radius + 1))
        if (j, i) != (y, x) and not excluded[j, i]
    ]


@settings(max_examples=40, deadline=None)
@given(scan=masked_scans(), radius=st.integers(0, 3), seed=st.integers(0, 9), keep=st.booleans())
def test_sums_of_neighbours_equal_a_plain_loop(scan, radius, seed, keep):
    patterns = scan.source.array
    positions = np.random.default_rng(seed).permutation(scan.n_positions)[:7]
    batch = reader(scan, radius, keep=keep)(positions)
    np.testing.assert_array_equal(batch.patterns.numpy(), patterns.reshape(-1, 8, 9)[positions])
    if not radius:
        assert batch.neighbours is None
        return
    want = [neighbours_of(patterns, scan.scan_mask, p, radius) for p in positions]
    np.testing.assert_array_equal(batch.members.numpy(), [len(found) for found in want])
    sums = [np.sum(found, 0) if found else np.zeros((8, 9)) for found in want]
    np.testing.assert_allclose(batch.neighbours.numpy(), sums, rtol=1e-5, atol=1e-6)


def test_excluded_positions_are_nobodys_neighbours():
    values = counts().astype("float32")
    mask = np.zeros((7, 5), bool)
    mask[3, 2] = True
    values[3, 2] = 1e9
    batch = reader(as_scan(values, scan_mask=mask), 1)(np.flatnonzero(~mask))
    assert batch.neighbours.max() < 1e3
    assert batch.members.sum() == reader(as_scan(values), 1)(np.flatnonzero(~mask)).members.sum() - 8


@pytest.fixture(params=["dask", "h5py", "big-endian"])
def stored(request, tmp_path):
    """The patterns of `counts()` as they may lie in storage that is not read at random."""
    if request.param == "dask":
        yield da.from_array(counts(), chunks=(3, 2, 16, 24))
    elif request.param == "big-endian":
        yield counts().astype(">u2")
    else:
        with h5py.File(tmp_path / "scan.h5", "w") as file:
            yield file.create_dataset("data", data=counts(), chunks=(2, 3, 32, 24), compression="gzip")


def test_storage_makes_no_difference(stored):
    positions = np.random.default_rng(0).permutation(35)
    want, got, kept = (
        reader(as_scan(data), 1, choosy=True, keep=keep)(positions)
        for data, keep in ((counts(), False), (stored, False), (counts(), True))
    )
    assert as_scan(stored).source.array is None
    at = np.flatnonzero(positions == 3 * 5 + 2)[0]
    assert want.members[at] == 5  # of eight neighbours, those on this side of the edge
    for batch in (got, kept):
        for one, other in zip(batch, want, strict=True):
            assert torch.equal(one, other)


def test_chunked_patterns_that_fit_are_read_into_memory_once(stored):
    scan = in_memory(as_scan(stored))
    np.testing.assert_array_equal(scan.source.array, counts())
    assert in_memory(scan) is scan


def test_patterns_that_do_not_fit_stay_where_they_are(stored, monkeypatch):
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    assert in_memory(as_scan(stored)).source.array is None


# ---- order ----


def batches(scan, training, *, start=0, workers=0, seed=0, batch_size=4, steps=6):
    """Batches of the epoch that begins at step `start`."""
    data = ScanDataModule(
        reader(scan, 1),
        training,
        np.arange(3),
        batch_size=batch_size,
        steps_per_epoch=steps,
        workers=workers,
        seed=seed,
    )
    data.trainer = type("Trainer", (), {"current_epoch": start // steps, "global_step": start})
    return list(data.train_dataloader())


def positions_of(parts, patterns):
    """Flat scan positions of the patterns in batches, each pattern being unlike all others."""
    where = {pattern.tobytes(): position for position, pattern in enumerate(patterns.reshape(-1, 32 * 24))}
    return [
        [where[p.tobytes()] for p in part.patterns.numpy().reshape(-1, 32 * 24).astype(np.uint16)]
        for part in parts
    ]


def test_a_pass_shows_each_training_position_once():
    training = np.arange(5, 33)
    seen = positions_of(batches(as_scan(counts()), training, steps=7), counts())
    assert sorted(chain(*seen)) == training.tolist()
    following = positions_of(batches(as_scan(counts()), training, start=7, steps=7), counts())
    assert sorted(chain(*following)) == training.tolist()
    assert following != seen


def test_what_a_step_sees_depends_on_its_number_and_the_seed_alone():
    scan, training = as_scan(counts()), np.arange(5, 35)
    whole = positions_of(batches(scan, training, steps=12), counts())
    parts = [positions_of(batches(scan, training, start=at, steps=4), counts()) for at in (0, 4, 8)]
    assert list(chain(*parts)) == whole
    assert positions_of(batches(scan, training, steps=12, seed=1), counts()) != whole
    assert positions_of(batches(scan, training, steps=12, workers=2), counts()) == whole


@pytest.mark.timeout(60)  # a fork that waits for ever is a failure
@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_batches(stored, workers, monkeypatch):
    monkeypatch.setattr(module, "_BUFFER_BYTES", 40 * 4 * 32 * 24)  # a buffer of some patterns
    scan = as_scan(stored)
    scan.read(np.arange(2))  # what is read with may have started threads
    training = np.arange(5, 33)
    streamed = batches(scan, training, steps=30, workers=workers)
    seen = positions_of(streamed, counts())
    assert len(seen) == 30
    assert set(chain(*seen)) == set(training)
    assert {len(part) for part in seen} == {4}
    assert np.mean([len(set(part)) for part in seen]) > 3.5
    assert np.bincount(list(chain(*seen)))[5:33].max() <= 7  # 120 patterns of 28
    want = reader(as_scan(counts()), 1)(np.array(seen[3]))
    assert torch.equal(streamed[3].neighbours, want.neighbours)
    assert positions_of(batches(scan, training, steps=30, workers=workers), counts()) == seen
    assert positions_of(batches(scan, training, start=30, steps=30, workers=workers), counts()) != seen
    assert any(max(part) - min(part) > 15 for part in seen)  # chunks are shuffled among each other
    home = {position: number for number, block in enumerate(scan.blocks(5)) for position in block}
    spread = np.mean([len({home[position] for position in part}) for part in seen])
    assert workers or spread > 2.2  # and patterns


def test_validation_is_the_same_each_time_and_bounded(monkeypatch):
    monkeypatch.setattr(module, "_VALIDATION_LIMIT", 6)
    data = ScanDataModule(
        reader(as_scan(counts()), 1), np.arange(20), np.arange(20, 35), batch_size=4, steps_per_epoch=5
    )
    first, second = (positions_of(data.val_dataloader(), counts()) for _ in range(2))
    assert first == second
    assert [len(part) for part in first] == [4, 2]
    assert set(chain(*first)) <= set(range(20, 35))


# ---- split counts ----


@settings(max_examples=30, deadline=None)
@given(mean=st.sampled_from([0.01, 0.5, 20.0, 3e4, 1e7]), seed=st.integers(0, 99))
def test_halves_are_whole_numbers_that_sum_to_the_counts(mean, seed):
    patterns = torch.from_numpy(np.random.default_rng(seed).poisson(mean, (3, 8, 9))).float()
    first, second = split_counts(patterns, torch.Generator().manual_seed(seed))
    assert torch.equal(first + second, patterns)
    for half in (first, second):
        assert half.min() >= 0
        assert torch.equal(half, half.round())


def test_halves_are_unbiased_independent_and_poissonian():
    patterns = torch.from_numpy(np.random.default_rng(0).poisson(6, (400, 16, 16))).float()
    first, second = (h.flatten().double() for h in split_counts(patterns, torch.Generator().manual_seed(1)))
    assert first.mean() == pytest.approx(3, abs=0.03)
    assert second.mean() == pytest.approx(3, abs=0.03)
    assert first.var() == pytest.approx(3, abs=0.06)
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.01


def test_splitting_is_reproducible():
    patterns = torch.full((2, 8, 9), 9.0)
    one, again, other = (split_counts(patterns, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
