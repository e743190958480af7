"""The examples run, from an empty folder, as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from helpers import ROOT

EXAMPLES = ROOT / "examples"
MAKES = {
    "arrays_and_files.py": ({"ae.ckpt", "latents.npz", "outputs", "scan.npy"}, "the same latents: True"),
    "hyperspy_signal.py": (
        {"ae.ckpt", "latents.hspy"},
        "LatentMaps, title: Latent maps, dimensions: (8|20, 24)",
    ),
    "py4dstem_datacube.py": ({"ae.ckpt", "polycrystal.h5"}, "the same latents: True"),
    "series_of_scans.py": (set(), "scans in the movie: 2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKES)
def test_example_runs(tmp_path, name):
    files, said = MAKES[name]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # the fastest for arrays this small
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], cwd=tmp_path, env=one_thread, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == files


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(MAKES)


@pytest.mark.parametrize("name", MAKES)
def test_examples_are_in_cells(name):
    lines = (EXAMPLES / name).read_text().splitlines()
    assert lines[0] == "# %% [markdown]"
    assert lines[1].startswith("# # ")
    assert lines.count("# %%") > 3
