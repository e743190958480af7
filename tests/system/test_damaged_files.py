"""Some damaged files; thousands of them: ``python -m benchmarks.reliability --only files``."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile import damaged_files as files
from latentstem.errors import format_exception


@pytest.fixture(
    scope="module", params=[kind for kind in files.KINDS if kind not in ("h5", "hspy", "emd", "master")]
)
def whole(request, tmp_path_factory):
    """A kind of file, one of them, and what is read from it."""
    path = files.whole_file(request.param, tmp_path_factory.mktemp("whole"))
    return request.param, path, files.read(request.param, path)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=24, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_damaged(whole, tmp_path_factory, rng):
    kind, path, before = whole
    damaged = tmp_path_factory.mktemp("damaged") / path.name
    damaged.write_bytes(files.damage(path.read_bytes(), rng))
    ended = files.outcome(kind, damaged, before, altered=False)
    assert not ended.startswith("WRONG"), ended


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whole", ["ckpt"], indirect=True)
@pytest.mark.parametrize("number", [*range(8), 67, 97, 149, 155, 191, 267, 287])
def test_altered_checkpoints(whole, tmp_path, number):
    kind, path, before = whole
    altered = tmp_path / path.name
    altered.write_bytes(path.read_bytes())
    files.alter_checkpoint(altered, random.Random(f"{kind} {number}"))
    ended = files.outcome(kind, altered, before, altered=True)
    assert not ended.startswith("WRONG"), ended


@pytest.mark.parametrize("kind", ["h5", "hspy"])
def test_damaged_hdf5_in_a_process_of_its_own(kind):
    """HDF5 itself has crashed on number 19 of the first kind."""
    ends = list(files.read_in_child(kind, 12, 24))
    assert len(ends) == 12
    assert not [ended for ended in ends if ended.startswith("WRONG")]


def test_a_model_changed_in_silence_would_be_seen(tmp_path):
    path = files.whole_file("ckpt", tmp_path)
    before = files.read("ckpt", path)
    other = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in before.items()}
    assert files.outcome("ckpt", path, before, altered=False) == "result"
    assert files.outcome("ckpt", path, other, altered=False) == "WRONG: another model in silence"


def test_what_other_libraries_say():
    assert format_exception(ValueError("a\n b <ast.Call object at 0x7fb6>")) == "ValueError: a b an object"
    assert format_exception(EOFError()) == "EOFError"
