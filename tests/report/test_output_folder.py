"""Files that a run leaves: earlier ones are kept, examples are what they claim to be."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentstem.nn.pattern_reader import PatternReader
from latentstem.report.report.output_folder import select_examples
from latentstem.scan.scan.scan import Scan

from latentstem.io.arrays import ArraySource, default_axes
from latentstem.io.open import as_scan
from latentstem.util.folders import keep_earlier_results

NAMES = ("ae.ckpt", "tb_logs")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def leave_results(folder, text):
    (folder / "tb_logs").mkdir()
    (folder / "tb_logs" / "events").write_text(text)
    (folder / "ae.ckpt").write_text(text)
    (folder / "notes.txt").write_text("mine")


def test_earlier_results_are_moved_and_other_files_stay(tmp_path):
    leave_results(tmp_path, "first")
    said = []
    with keep_earlier_results(tmp_path, NAMES, said.append) as earlier:
        assert contents(tmp_path) == {
            "notes.txt": "mine",
            "earlier-1/ae.ckpt": "first",
            "earlier-1/tb_logs/events": "first",
        }
        assert earlier == tmp_path / "earlier-1"
        (tmp_path / "ae.ckpt").write_text("second")
    assert said == [f"Results of an earlier run were moved from {tmp_path} to {tmp_path / 'earlier-1'}."]
    with keep_earlier_results(tmp_path, NAMES, said.append) as earlier:
        (tmp_path / "ae.ckpt").write_text("third")
    assert earlier == tmp_path / "earlier-2"
    assert contents(tmp_path)["earlier-2/ae.ckpt"] == "second"
    assert contents(tmp_path)["earlier-1/ae.ckpt"] == "first"
    assert contents(tmp_path)["ae.ckpt"] == "third"


def test_the_next_number_is_above_all_that_are_there(tmp_path):
    leave_results(tmp_path, "new")
    for name in ("earlier-7", "earlier-x"):
        (tmp_path / name).mkdir()
    with keep_earlier_results(tmp_path, NAMES, print) as earlier:
        assert earlier.name == "earlier-8"


def test_nothing_happens_in_an_empty_folder(tmp_path):
    with keep_earlier_results(tmp_path, NAMES, pytest.fail) as earlier:
        assert earlier is None
    assert not list(tmp_path.iterdir())


def test_earlier_results_come_back_if_nothing_was_written(tmp_path):
    leave_results(tmp_path, "first")
    before = contents(tmp_path)
    with pytest.raises(KeyError, match="stop"), keep_earlier_results(tmp_path, NAMES, pytest.fail):
        raise KeyError("stop")
    assert contents(tmp_path) == before
    assert not (tmp_path / "earlier-1").exists()


def test_earlier_results_stay_aside_if_something_was_written(tmp_path):
    leave_results(tmp_path, "first")
    said = []

    def half_a_run():
        with keep_earlier_results(tmp_path, NAMES, said.append):
            (tmp_path / "ae.ckpt").write_text("half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        half_a_run()
    assert contents(tmp_path)["ae.ckpt"] == "half"
    assert contents(tmp_path)["earlier-1/ae.ckpt"] == "first"
    assert len(said) == 1


class Flat:
    """A model that reconstructs every pattern as the same flat one."""

    reader = staticmethod(PatternReader)

    @staticmethod
    def reconstruct_batch(batch):
        return torch.full_like(batch.patterns, 4.0)


@pytest.mark.parametrize("excluded", [None, (5, 3)])
def test_examples_are_the_least_median_and_largest_residual(excluded):
    rng = np.random.default_rng(0)
    patterns = np.full((7, 5, 32, 24), 4.0) + rng.uniform(0.5, 1.0, (7, 5, 1, 1))
    patterns[5, 3] = 40.0
    patterns[1, 2] = 4.0
    mask = np.zeros((7, 5), bool)
    if excluded:
        mask[excluded] = True
    scan = as_scan(patterns, scan_mask=mask)
    examples = select_examples(Flat(), scan)
    error = np.where(mask, np.nan, ((patterns - 4) ** 2).mean((2, 3)))
    assert list(examples.positions) == ["typical", "best", "worst"]
    assert examples.positions["best"] == (1, 2)
    assert examples.positions["worst"] == np.unravel_index(np.nanargmax(error), (7, 5))
    below = (error < error[examples.positions["typical"]]).sum()
    assert below == np.isfinite(error).sum() // 2
    for pattern, position in zip(examples.patterns, examples.positions.values(), strict=True):
        np.testing.assert_array_equal(pattern, patterns[position])
    assert examples.reconstructed.shape == (3, 32, 24)


def test_examples_of_a_large_scan_look_at_a_part_of_it():
    shape = (200, 100, 8, 8)
    source = ArraySource(np.broadcast_to(np.float32(4), shape))
    reads = []
    counting = SimpleNamespace(
        shape=shape, dtype=np.dtype("f4"), chunks=(1, 1), array=source.array,
        read=lambda at: (reads.append(at), source.read(at))[1],
    )  # fmt: skip
    scan = Scan(counting, default_axes(shape))
    select_examples(Flat(), scan)
    seen = np.unique(np.concatenate(reads))
    assert 900 < len(seen) < 1300
    assert len(np.unique(seen // 2000)) == 10, "from all parts of the scan"
