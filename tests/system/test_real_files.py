"""Files of real formats, and a labelled scan, all the way through."""

from __future__ import annotations

import numpy as np
import pytest

import latentstem
from helpers import ROOT
from latentstem.errors import LatentSTEMError

FORMATS = ROOT.parent / "shared" / "data" / "formats"
QUICK = {"epochs": 2, "latent_dim": 4, "progress": False}
FILES = sorted(p.relative_to(FORMATS) for p in FORMATS.rglob("*") if p.is_file() and p.suffix != ".md")


# rosettasciio 0.15 leaves .mrc files open
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed file:ResourceWarning"
)
@pytest.mark.parametrize("name", FILES or ["no file"], ids=str)
def test_a_file_trains_or_is_refused_with_advice(name, shared_data):
    path = shared_data / "formats" / name
    refused: LatentSTEMError | None = None
    try:
        model = latentstem.train_autoencoder(path, **QUICK)
    except LatentSTEMError as error:
        refused = error
    if refused is not None:
        assert all([refused.expected, refused.received, refused.advice])
        return
    maps, patterns = latentstem.embed(path, model).maps, latentstem.reconstruct(path, model)
    assert np.isfinite(maps).all()
    assert np.isfinite(patterns).all()
    assert patterns.shape == (*maps.shape[:2], *model.pattern_shape)


@pytest.mark.parametrize(
    "name",
    [
        "mib_merlin/001_4x2_6bit.mib",
        "blo_nanomegas/test1.blo",
        "emd/libertem_hdf5_sample_16x16x16x16.h5",
        "fpd_merlin_h5/fpd_file_test.hdf5",
        "tia/16x16-diffraction_imagel_5x5x256x256_EDS_2.ser",
    ],
)
def test_real_scans_are_among_those_that_train(name, shared_data):
    model = latentstem.train_autoencoder(shared_data / "formats" / name, **QUICK)
    assert model.history["train/loss"]


@pytest.fixture(scope="module")
def three_doors(shared_data):
    """The labelled scan as a HyperSpy signal, a py4DSTEM datacube and an array."""
    import hyperspy.api as hs
    import py4DSTEM

    folder = shared_data / "orient4d-scan32"
    return (
        hs.load(folder / "scan_32.hspy"),
        py4DSTEM.read(str(folder / "scan_32.h5")),
        np.load(folder / "scan_32.npz")["data"],
    )


def test_the_same_latents_through_all_doors(three_doors, shared_data):
    signal, datacube, array = three_doors
    quick = {**QUICK, "epochs": None, "max_patterns": 256, "bin": 2}
    wanted = latentstem.embed(array, latentstem.train_autoencoder(array, **quick)).maps
    maps = signal.embed(signal.train_autoencoder(**quick))
    np.testing.assert_array_equal(np.moveaxis(maps.data, 0, -1), wanted)
    latents = datacube.embed(datacube.train_autoencoder(**quick))
    np.testing.assert_array_equal(np.moveaxis(latents.data, 0, -1), wanted)
    for suffix in (".hspy", ".h5", ".npz"):
        path = shared_data / "orient4d-scan32" / f"scan_32{suffix}"
        model = latentstem.train_autoencoder(path, **quick)
        np.testing.assert_allclose(
            latentstem.embed(path, model).maps, wanted, rtol=1e-5, atol=1e-5, err_msg=suffix
        )
