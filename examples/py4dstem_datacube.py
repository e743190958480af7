# %% [markdown]
# # Latent maps of a py4DSTEM datacube
#
# A datacube gets three methods when `latentstem` is imported: `train_autoencoder`, `embed` and `reconstruct`.
# This script writes its files into the current folder.

# %%
import numpy as np
import py4DSTEM

import latentstem

# %% [markdown]
# A datacube. Yours comes from `py4DSTEM.read` or `py4DSTEM.import_file`; this one is simulated: five grains,
# 500 electrons in each diffraction pattern. The numbers here are small, so that the script takes seconds.

# %%
simulated = latentstem.simulate((24, 20), (32, 32), dose=500, n_grains=5)
datacube = py4DSTEM.DataCube(simulated.counts, name="polycrystal")
datacube.calibration.set_R_pixel_size(simulated.scan_step)
datacube.calibration.set_R_pixel_units("nm")
datacube.calibration.set_Q_pixel_size(simulated.pixel_size)
datacube.calibration.set_Q_pixel_units("A^-1")

# %% [markdown]
# Train. Every argument is described by `help(latentstem.TrainingConfig)`; values that are not given are
# chosen for the data, and `summary.choices` says why.

# %%
model = datacube.train_autoencoder(latent_dim=8, max_patterns=5_000, progress=False)
print(model.summary)
print("\n".join(model.summary.choices))

# %% [markdown]
# Latent maps: an array (latent, Rx, Ry) with the scan's calibration, stored on the datacube's tree.

# %%
latents = datacube.embed(model, name="latents")
print(latents)
print(datacube.treekeys)

# %% [markdown]
# The denoised datacube: same shape, same calibration, in the units of the detector.

# %%
denoised = datacube.reconstruct(model)
noise_before = np.abs(datacube.data - simulated.expectation).mean()
noise_after = np.abs(denoised.data - simulated.expectation).mean()
print(f"mean distance to the noise-free patterns: {noise_before:.4f} before, {noise_after:.4f} after")

# %% [markdown]
# Everything is saved as usual. The file with the latents opens without `latentstem`, too.

# %%
py4DSTEM.save("polycrystal.h5", datacube, mode="o")
model.save("ae.ckpt")

# %% [markdown]
# Later: load the model, and apply it to a scan of the same detector.

# %%
model = latentstem.load("ae.ckpt")
later = py4DSTEM.read("polycrystal.h5")
again = later.embed(model, name="latents")
print("the same latents:", np.array_equal(again.data, latents.data))
