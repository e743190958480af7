"""The scan: axis order, blocks, masks, and the way in."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstem.errors import MaskError, UnsupportedDataError
from latentstem.io.open import as_scan
from latentstem.scan.passes import iterate_passes, read_blocks, run_passes
from latentstem.scan.scan import Axis, PatternSource, Scan

SHAPE = (7, 5, 32, 24)
DATA = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)


class Source:
    """A pattern source of any storage chunks, which holds no patterns."""

    dtype = np.dtype(np.uint16)
    array = None
    files = frozenset()

    def __init__(self, shape, chunks):
        self.shape, self.chunks = shape, chunks

    def read(self, indices):
        return np.zeros((len(indices), *self.shape[2:]), self.dtype)


def test_axis_order():
    scan = as_scan(DATA)
    assert (scan.scan_shape, scan.pattern_shape) == ((7, 5), (32, 24))
    assert (scan.n_positions, scan.nbytes, scan.dtype) == (35, DATA.nbytes, np.int32)
    assert [axis.size for axis in scan.axes] == [7, 5, 32, 24]
    np.testing.assert_array_equal(scan.read([3 * 5 + 2]), DATA[[3], [2]])
    assert isinstance(scan.source, PatternSource)


@given(
    scan_shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    chunks=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    max_patterns=st.integers(1, 50),
)
def test_blocks_keep_chunks_together(scan_shape, chunks, max_patterns):
    chunks = tuple(min(size, n) for size, n in zip(chunks, scan_shape, strict=True))
    axes = tuple(Axis("axis", n) for n in (*scan_shape, 8, 9))
    blocks = list(Scan(Source((*scan_shape, 8, 9), chunks), axes).blocks(max_patterns))
    every = np.concatenate(blocks)
    assert sorted(every) == list(range(scan_shape[0] * scan_shape[1]))
    assert max(map(len, blocks)) <= max(max_patterns, chunks[0] * chunks[1])
    rows, columns = np.divmod(np.arange(len(every)), scan_shape[1])
    chunk_of = rows // chunks[0] * scan_shape[1] + columns // chunks[1]
    seen = [set(chunk_of[block]) for block in blocks]
    if chunks != (1, 1):
        assert sum(map(len, seen)) == len(set.union(*seen))


def test_masks():
    scan_mask, pattern_mask = np.zeros((7, 5), bool), np.zeros((32, 24), bool)
    scan_mask[2, 3] = pattern_mask[4, 5] = True
    scan = as_scan(DATA, scan_mask=scan_mask, pattern_mask=pattern_mask.tolist())
    np.testing.assert_array_equal(scan.scan_mask, scan_mask)
    np.testing.assert_array_equal(scan.pattern_mask, pattern_mask)
    assert as_scan(DATA).scan_mask is None
    again = scan.with_masks(scan_mask=~scan_mask)
    np.testing.assert_array_equal(again.scan_mask, ~scan_mask)
    np.testing.assert_array_equal(again.pattern_mask, pattern_mask)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            {"scan_mask": np.zeros((5, 7), bool)},
            r"scan_mask.*shape \(7, 5\); received bool \(5, 7\).*True excludes",
        ),
        ({"pattern_mask": np.zeros((24, 32), bool)}, r"pattern_mask.*\(32, 24\); received bool \(24, 32\)"),
        ({"pattern_mask": np.zeros((32, 24))}, r"boolean array.*received float64 \(32, 24\)"),
        (
            {"scan_mask": np.ones((7, 5), bool)},
            r"scan_mask excludes everything.*35 times True.*invert the mask",
        ),
        ({"pattern_mask": np.ones((32, 24), bool)}, r"pattern_mask excludes everything"),
    ],
)
def test_masks_that_do_not_fit(masks, message):
    with pytest.raises(MaskError, match=message):
        as_scan(DATA, **masks)


def test_signature_is_plain():
    signature = as_scan(DATA).signature()
    assert json.loads(json.dumps(signature)) == signature
    assert signature["scan_shape"] == [7, 5]
    assert signature["pattern_shape"] == [32, 24]
    assert signature["dtype"] == "int32"
    assert signature["axes"][3] == {"name": "kx", "size": 24, "scale": 1.0, "offset": 0.0, "units": ""}


def test_other_objects():
    with pytest.raises(UnsupportedDataError, match=r"received builtins.dict"):
        as_scan({})


class Sums:
    """Total intensity of each pattern, and how many blocks there were."""

    def __init__(self, scan):
        self.blocks, self.totals = 0, np.zeros(scan.n_positions)

    def process(self, positions, patterns):
        self.blocks += 1
        self.totals[positions] += patterns.sum((1, 2))

    def result(self):
        return self.totals


@pytest.mark.parametrize("chunks", [None, (3, 2, 32, 24)])
def test_passes_share_one_reading(chunks, monkeypatch):
    monkeypatch.setattr("latentstem.scan.passes._BLOCK_VALUES", 8 * 32 * 24)
    dask = pytest.importorskip("dask.array")
    mask = np.zeros((7, 5), bool)
    mask[2, 1:3] = True
    scan = as_scan(DATA if chunks is None else dask.from_array(DATA, chunks=chunks), scan_mask=mask)
    read = []
    source = replace(scan, source=Counting(scan.source, read))
    first, second = Sums(scan), Sums(scan)
    totals = run_passes(source, first, second)
    for each in totals:
        np.testing.assert_array_equal(each.reshape(7, 5), np.where(mask, 0, DATA.sum((2, 3))))
    np.testing.assert_array_equal(np.sort(np.concatenate(read)), np.flatnonzero(~mask))
    assert first.blocks == second.blocks == len(read)
    *_, last = fractions = list(iterate_passes(source, [Sums(scan)]))
    assert last == 1
    assert fractions == sorted(fractions)


@pytest.mark.parametrize("most", [1, 4, 512])
def test_blocks_are_read_up_to_a_size(most):
    scan = as_scan(DATA)
    positions = np.array([33, 4, 20, 21])
    blocks = list(read_blocks(scan, positions, most))
    assert all(len(block) <= most for block, _ in blocks)
    np.testing.assert_array_equal(np.concatenate([block for block, _ in blocks]), np.sort(positions))
    np.testing.assert_array_equal(
        np.concatenate([patterns for _, patterns in blocks]), DATA.reshape(-1, 32, 24)[np.sort(positions)]
    )


class Counting:
    """A source that notes what is read."""

    def __init__(self, source, read):
        self.source, self.noted = source, read
        self.shape, self.dtype, self.array, self.chunks = source.shape, source.dtype, None, source.chunks

    def read(self, indices):
        self.noted.append(indices)
        return self.source.read(indices)
