"""Which patterns a step sees: the split, the neighbours, the order, and the way from chunked storage."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
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
from latentstem.config import TrainingConfig
from latentstem.errors import FileError, MaskError
from latentstem.nn import scan_sample
from latentstem.nn.batches import PatternBatch
from latentstem.nn.detector import Detector
from latentstem.nn.neighbourhood import ring_count
from latentstem.nn.preprocessing import Preprocessing
from latentstem.nn.principal_components import PrincipalComponents
from latentstem.nn.scan_sample import sample_with_neighbour_means
from latentstem.nn.scan_scores import ScanScores
from latentstem.nn.thinning import thin_counts
from latentstem.training import data_module as module
from latentstem.training import prefetch, sampler
from latentstem.training.data_module import ScanDataModule, fits_in_memory, in_memory, split_positions
from latentstem.training.process_group import ProcessGroup

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


COMPONENTS = 18


def random_components(shape, radius, *, choosy=False):
    """Scores along random directions; all patterns are similar, or those of similar brightness."""
    made = PrincipalComponents(Preprocessing("none", Detector(shape)), COMPONENTS, radius)
    rng = np.random.default_rng(7)
    made.directions.copy_(torch.from_numpy(rng.normal(size=made.directions.shape)))
    made.directions[:, :16] *= float(choosy)
    if choosy:
        made.directions[:, :16] = made.directions[:, :16].abs()
    made.centre.copy_(torch.from_numpy(rng.normal(size=COMPONENTS)))
    made.gain.fill_(1.0 if choosy else 0.0)
    return made


def scores_of(scan, radius, *, choosy=False):
    made = random_components(scan.pattern_shape, radius, choosy=choosy)
    return ScanScores.measure(scan, made, made._preprocessing[0].detector)


def ring_sums_of(patterns, excluded, position, made):
    """Ring sums (R, q) and counts (R,) of one scan position, by a plain loop."""
    (ny, nx), radius = patterns.shape[:2], made.radius
    distances = sorted(
        {
            j**2 + i**2
            for j in range(-radius, radius + 1)
            for i in range(-radius, radius + 1)
            if (j, i) != (0, 0)
        }
    )
    sums, members = np.zeros((len(distances), COMPONENTS)), np.zeros(len(distances))
    y, x = divmod(int(position), nx)
    own = made(torch.from_numpy(patterns[y, x].astype("f4"))[None])
    for j in range(max(0, y - radius), min(ny, y + radius + 1)):
        for i in range(max(0, x - radius), min(nx, x + radius + 1)):
            if (j, i) == (y, x) or excluded[j, i]:
                continue
            other = made(torch.from_numpy(patterns[j, i].astype("f4"))[None])
            if made.is_similar(own, other):
                ring = distances.index((j - y) ** 2 + (i - x) ** 2)
                sums[ring] += other[0][0].double().numpy()
                members[ring] += 1
    return sums, members


@settings(max_examples=40, deadline=None)
@given(scan=masked_scans(), radius=st.integers(0, 3), seed=st.integers(0, 9), choosy=st.booleans())
def test_ring_sums_equal_a_plain_loop(scan, radius, seed, choosy):
    patterns = scan.source.array
    positions = np.random.default_rng(seed).permutation(scan.n_positions)[:7]
    made = random_components(scan.pattern_shape, radius, choosy=choosy)
    batch = ScanScores.measure(scan, made, made._preprocessing[0].detector)(positions)
    values = torch.from_numpy(patterns.reshape(-1, 8, 9)[positions].astype("f4"))
    want = (values.flatten(1).double() @ made.directions.double() - made.centre).numpy()
    np.testing.assert_allclose(batch.scores.numpy(), want, rtol=1e-4, atol=1e-3)
    assert batch.ring_counts.shape[1] == batch.ring_sums.shape[1] == ring_count(radius)
    for i, position in enumerate(positions):
        sums, members = ring_sums_of(patterns, scan.scan_mask, position, made)
        np.testing.assert_array_equal(batch.ring_counts[i].numpy(), members)
        np.testing.assert_allclose(batch.ring_sums[i].numpy(), sums, rtol=1e-4, atol=1e-2)


def test_without_components_there_are_no_scores():
    made = PrincipalComponents(Preprocessing("none", Detector(SHAPE[2:])), 0, 1)
    batch = ScanScores.measure(as_scan(counts()), made, Detector(SHAPE[2:]))(np.arange(5, 9))
    assert batch.scores.shape == (4, 0)
    assert batch.ring_sums.shape == (4, 2, 0)


@pytest.mark.parametrize("garbage", [1e9, np.nan])
@pytest.mark.parametrize("position", [(3, 2), (0, 0)])
def test_excluded_positions_are_nobodys_neighbours(garbage, position):
    values = counts().astype("float32")
    clean = scores_of(as_scan(values), 1)(np.arange(35)).ring_counts.sum()
    mask = np.zeros((7, 5), bool)
    mask[position] = True
    values[position] = garbage
    batch = scores_of(as_scan(values, scan_mask=mask), 1)(np.flatnonzero(~mask))
    assert batch.ring_sums.abs().max() < 1e5
    assert batch.ring_counts.sum() == clean - 2 * (8 if position == (3, 2) else 3)


@pytest.mark.parametrize("radius", [0, 1])
def test_some_of_a_batch_is_what_was_asked_for(radius):
    scores = scores_of(as_scan(counts()), radius)
    batch = PatternBatch(torch.from_numpy(counts().reshape(-1, 32, 24)[:20]), scores(np.arange(20))).take(
        slice(3, 9)
    )
    assert torch.equal(batch.patterns, torch.from_numpy(counts().reshape(-1, 32, 24)[3:9]))
    for one, other in zip(batch.scores, scores(np.arange(3, 9)), strict=True):
        assert torch.equal(one, other)


@settings(max_examples=20, deadline=None)
@given(scan=masked_scans(), seed=st.integers(0, 9))
def test_a_sample_and_its_means_equal_a_plain_loop(scan, seed):
    patterns, (ny, nx) = scan.source.array.astype(float), scan.scan_shape
    positions = np.sort(np.random.default_rng(seed).permutation(scan.n_positions)[:5])
    single, mean = sample_with_neighbour_means(scan, positions, Detector((8, 9)))
    np.testing.assert_array_equal(single.numpy(), patterns.reshape(-1, 8, 9)[positions])
    for position, got in zip(positions, mean.numpy(), strict=True):
        y, x = divmod(int(position), nx)
        seen = [
            patterns[j, i]
            for j in range(max(0, y - 2), min(ny, y + 3))
            for i in range(max(0, x - 2), min(nx, x + 3))
            if (j, i) == (y, x) or not scan.scan_mask[j, i]
        ]
        np.testing.assert_allclose(got, np.mean(seen, 0), rtol=1e-5)


def test_a_large_sample_is_read_in_parts(monkeypatch):
    scan, positions = as_scan(counts()), np.arange(3, 31)
    want = sample_with_neighbour_means(scan, positions, Detector(SHAPE[2:]))
    monkeypatch.setattr(scan_sample, "_MAX_READ_PATTERNS", 6)
    for one, other in zip(
        sample_with_neighbour_means(scan, positions, Detector(SHAPE[2:])), want, strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.fixture(params=["dask", "h5py", "zarr", "big-endian"])
def stored(request, tmp_path):
    """The patterns of `counts()` as they may lie in storage that is not read at random."""
    if request.param == "dask":
        yield da.from_array(counts(), chunks=(3, 2, 16, 24))
    elif request.param == "big-endian":
        yield counts().astype(">u2")
    elif request.param == "zarr":
        store = pytest.importorskip("zarr").open(
            str(tmp_path / "scan.zarr"), mode="w", shape=SHAPE, chunks=(4, 3, 16, 24), dtype="u2"
        )
        store[:] = counts()
        yield store
    else:
        with h5py.File(tmp_path / "scan.h5", "w") as file:
            yield file.create_dataset("data", data=counts(), chunks=(2, 3, 32, 24), compression="gzip")


def test_storage_makes_no_difference(stored):
    positions = np.random.default_rng(0).permutation(35)
    want, got = (scores_of(as_scan(data), 1, choosy=True)(positions) for data in (counts(), stored))
    assert as_scan(stored).source.array is None
    at = np.flatnonzero(positions == 3 * 5 + 2)[0]
    assert want.ring_counts[at].sum() == 5  # of eight neighbours, those on this side of the edge
    assert torch.equal(got.ring_counts, want.ring_counts)
    torch.testing.assert_close(got.scores, want.scores, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(got.ring_sums, want.ring_sums, rtol=1e-4, atol=1e-2)


def test_the_whole_scan_is_scored_in_one_pass():
    source = as_scan(counts()).source
    reads = []
    counting = type("Counting", (), {
        "shape": source.shape, "dtype": source.dtype, "chunks": source.chunks, "array": source.array,
        "read": staticmethod(lambda at: (reads.append(at), source.read(at))[1]),
    })()  # fmt: skip
    scores = scores_of(replace(as_scan(counts()), source=counting), 1)
    assert sorted(np.concatenate(reads)) == list(range(35))
    reads.clear()
    scores(np.arange(35))
    assert not reads


def test_chunked_patterns_that_fit_are_read_into_memory_once(stored):
    scan = in_memory(as_scan(stored))
    np.testing.assert_array_equal(scan.source.array, counts())
    assert in_memory(scan) is scan


def test_what_fits_into_memory(stored, monkeypatch):
    scan = as_scan(stored)
    free = type("Memory", (), {"available": 6 * scan.nbytes})
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: free)
    assert fits_in_memory(scan)
    assert fits_in_memory(scan, copies=2)
    assert not fits_in_memory(scan, copies=3)


# ---- order ----


def batches(scan, training, *, start=0, workers=0, seed=0, batch_size=4, steps=6, rank=0, world_size=1):
    """Batches of the epoch that begins at step `start`."""
    data = ScanDataModule(
        scan,
        scores_of(scan, 1),
        training,
        np.arange(3),
        TrainingConfig(batch_size=batch_size, workers=workers, seed=seed),
        ProcessGroup(rank, world_size),
        steps,
    )
    data.trainer = type("Trainer", (), {"current_epoch": start // steps, "global_step": start})
    try:
        return list(data.train_dataloader())
    finally:
        data.stop_prefetch()


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


@pytest.fixture
def small_buffer(monkeypatch):
    """Room for 12 patterns, read in blocks of at most 5 or one storage chunk."""
    monkeypatch.setattr(sampler, "SHUFFLE_BUFFER_BYTES", 12 * 2 * 32 * 24)
    monkeypatch.setattr(module, "_READ_BYTES", 5 * 2 * 32 * 24)


@pytest.mark.timeout(60)  # a fork that waits for ever is a failure
@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_batches(stored, workers, small_buffer):
    scan = as_scan(stored)
    scan.read(np.arange(2))  # what is read with may have started threads
    training = np.arange(5, 33)
    streamed = batches(scan, training, steps=14, workers=workers)
    seen = positions_of(streamed, counts())
    assert sorted(chain(*seen[:7])) == sorted(chain(*seen[7:])) == training.tolist()
    assert seen[:7] != seen[7:]
    want = scores_of(as_scan(counts()), 1)(np.array(seen[3]))
    assert torch.equal(streamed[3].scores.ring_counts, want.ring_counts)
    torch.testing.assert_close(streamed[3].scores.ring_sums, want.ring_sums, rtol=1e-4, atol=1e-2)
    assert any(max(part) - min(part) > 15 for part in seen)  # chunks are shuffled among each other
    home = {position: number for number, block in enumerate(scan.blocks(5)) for position in block}
    spread = np.mean([len({home[position] for position in part}) for part in seen])
    assert spread > 2  # and patterns


def test_the_streamed_order_is_that_of_the_seed_and_the_step(stored, small_buffer):
    scan, training = as_scan(stored), np.arange(5, 34)
    scan.read(np.arange(2))
    whole = positions_of(batches(scan, training, steps=16), counts())
    for start in (3, 7, 12):  # in the midst of passes, and at the start of one
        assert (
            positions_of(batches(scan, training, start=start, steps=16), counts())[: 16 - start]
            == whole[start:]
        )
    assert positions_of(batches(scan, training, steps=16, workers=1), counts()) == whole
    assert positions_of(batches(scan, training, steps=16, workers=2), counts()) == whole
    assert positions_of(batches(scan, training, steps=16, seed=1), counts()) != whole


@pytest.mark.timeout(60)
def test_loader_processes_that_start_afresh_open_the_file_again(tmp_path, small_buffer, monkeypatch):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("data", data=counts(), chunks=(2, 3, 32, 24), compression="gzip")
    scan, training = as_scan(tmp_path / "scan.h5"), np.arange(5, 34)
    whole = positions_of(batches(scan, training, steps=9), counts())
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(prefetch, "DataLoader", partial(prefetch.DataLoader, multiprocessing_context=spawn))
    assert positions_of(batches(scan, training, steps=9, workers=1), counts()) == whole


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(3, 60),
    batch_size=st.integers(1, 70),
    processes=st.integers(1, 3),
    room=st.integers(1, 30),
    chunk=st.integers(1, 9),
    streamed=st.booleans(),
)
def test_processes_share_each_pass(total, batch_size, processes, room, chunk, streamed):
    positions = np.random.default_rng(0).permutation(70)[:total]
    blocks = [np.arange(70)[at : at + chunk] for at in range(0, 70, chunk)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "SHUFFLE_BUFFER_BYTES", 10 * room)
        shares = [
            sampler.ChunkedSampler(positions, batch_size, 5, rank, processes, blocks=blocks, pattern_bytes=10)
            if streamed
            else sampler.PassSampler(positions, batch_size, 5, rank, processes)
            for rank in range(processes)
        ]
    assert len({share.steps_per_pass for share in shares}) == 1
    steps = shares[0].steps_per_pass
    for number in (0, 1):
        if streamed:
            parts = [share.plan_pass(number)[1] for share in shares]
        else:
            parts = [[share[number * steps + step] for step in range(steps)] for share in shares]
        assert {len(part) for part in parts} == {steps}
        sizes = {len(batch) for part in parts for batch in part}
        assert sizes <= {shares[0].batch_size} or steps == 1
        assert min(sizes) > 0
        seen = np.concatenate(list(chain(*parts)))
        assert len(np.unique(seen)) == len(seen)
        assert set(seen) <= set(positions)
        assert total - len(seen) < processes * shares[0].batch_size


@settings(max_examples=40, deadline=None)
@given(room=st.integers(1, 30), first=st.integers(0, 8), chunk=st.integers(1, 20), seed=st.integers(0, 9))
def test_the_buffer_is_bounded_and_what_was_seen_is_not_read_again(room, first, chunk, seed):
    blocks = [np.arange(60)[at : at + chunk] for at in range(0, 60, chunk)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "SHUFFLE_BUFFER_BYTES", room)
        made = sampler.ChunkedSampler(np.arange(2, 60), 6, seed, blocks=blocks, pattern_bytes=1)
    reads, steps = made.plan_pass(3, first)
    held, reading = set(), iter(reads)
    for step in steps:
        while not set(step) <= held:
            held |= set(next(reading).tolist())
            assert len(held) <= made.buffer_size <= max(room, 6) + chunk
        held -= set(step.tolist())
    assert next(reading, None) is None
    assert not held
    assert len(steps) == made.steps_per_pass - first


def test_reading_ahead_leaves_the_processors_to_the_training():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(prefetch.prefetch((torch.get_num_threads() for _ in range(3)), 1)) == [1, 1, 1]
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as other:  # nor is another thread of the user's changed
            assert other.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(threads)


def test_blocks_are_read_in_another_order_in_each_pass(monkeypatch):
    monkeypatch.setattr(sampler, "SHUFFLE_BUFFER_BYTES", 12)
    blocks = [np.arange(60)[at : at + 5] for at in range(0, 60, 5)]
    made = sampler.ChunkedSampler(np.arange(60), 6, 0, blocks=blocks, pattern_bytes=1)
    firsts = [[read[0] for read in made.plan_pass(number)[0]] for number in (0, 1, 0)]
    assert firsts[0] == firsts[2] != firsts[1]
    assert sorted(firsts[0]) == list(range(0, 60, 5)) != firsts[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_left_behind(stored, workers, small_buffer):
    scan = as_scan(stored)
    scan.read(np.arange(2))
    before = set(threading.enumerate()), set(multiprocessing.active_children())
    data = ScanDataModule(
        scan,
        scores_of(scan, 1),
        np.arange(30), np.arange(30, 35), TrainingConfig(batch_size=4, workers=workers), ProcessGroup(), 5,
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        for _ in data.train_dataloader():
            assert {*threading.enumerate()} - before[0]
            raise KeyboardInterrupt
    data.stop_prefetch()
    left = {*threading.enumerate()} - before[0]
    assert not [thread for thread in left if thread.name.startswith("latentstem")]
    for thread in left:  # feeders of torch's queues end by themselves
        thread.join(5)
    assert not {*threading.enumerate()} - before[0]
    assert not {*multiprocessing.active_children()} - before[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_chunk_is_our_error_wherever_it_is_read(tmp_path, workers, small_buffer):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        data = file.create_dataset("data", data=counts(), chunks=(2, 3, 32, 24), compression="gzip")
        where = data.id.get_chunk_info(3).byte_offset
    scores = scores_of(as_scan(counts()), 1)
    with (tmp_path / "scan.h5").open("r+b") as file:
        file.seek(where)
        file.write(b"\xff" * 40)
    data = ScanDataModule(
        as_scan(tmp_path / "scan.h5"),
        scores,
        np.arange(5, 35),
        np.arange(3),
        TrainingConfig(batch_size=4, workers=workers),
        ProcessGroup(),
        7,
    )
    with pytest.raises(FileError, match="patterns cannot be read"):
        list(data.train_dataloader())
    data.stop_prefetch()


def test_validation_is_the_same_each_time_and_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MAX_VALIDATION_PATTERNS", 6)
    data = ScanDataModule(
        as_scan(counts()), scores_of(as_scan(counts()), 1),
        np.arange(20), np.arange(20, 35), TrainingConfig(batch_size=4), ProcessGroup(), 5,
    )  # fmt: skip
    first, second = (positions_of(data.val_dataloader(), counts()) for _ in range(2))
    assert first == second
    assert [len(part) for part in first] == [4, 2]
    assert set(chain(*first)) <= set(range(20, 35))


# ---- split counts ----


@settings(max_examples=30, deadline=None)
@given(mean=st.sampled_from([0.01, 0.5, 20.0, 3e4, 1e7]), seed=st.integers(0, 99))
def test_halves_are_whole_numbers_that_sum_to_the_counts(mean, seed):
    patterns = torch.from_numpy(np.random.default_rng(seed).poisson(mean, (3, 8, 9))).float()
    first, second = thin_counts(patterns, torch.Generator().manual_seed(seed))
    assert torch.equal(first + second, patterns)
    for half in (first, second):
        assert half.min() >= 0
        assert torch.equal(half, half.round())


def test_halves_are_unbiased_independent_and_poissonian():
    patterns = torch.from_numpy(np.random.default_rng(0).poisson(6, (400, 16, 16))).float()
    first, second = (h.flatten().double() for h in thin_counts(patterns, torch.Generator().manual_seed(1)))
    assert first.mean() == pytest.approx(3, abs=0.03)
    assert second.mean() == pytest.approx(3, abs=0.03)
    assert first.var() == pytest.approx(3, abs=0.06)
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.01


def test_splitting_is_reproducible():
    patterns = torch.full((2, 8, 9), 9.0)
    one, again, other = (thin_counts(patterns, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
