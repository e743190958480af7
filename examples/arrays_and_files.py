# %% [markdown]
# # Arrays and files, without a host library
#
# The functions under the methods take any array (numpy, memory map, h5py, zarr, dask, torch) or the path of a file.
# This script writes its files into the current folder.

# %%
from pathlib import Path

import numpy as np

import latentstem

# %% [markdown]
# A file. It can be larger than the memory: `.npy`, HDF5 and zarr files are read in blocks.

# %%
simulated = latentstem.simulate((24, 20), (32, 32), dose=500, n_grains=5, hot_pixels=2)
np.save("scan.npy", simulated.counts)

scan = latentstem.as_scan("scan.npy")
print(scan.scan_shape, scan.pattern_shape, scan.dtype)

# %% [markdown]
# Train, with the two hot detector pixels excluded (True excludes).

# %%
model = latentstem.train_autoencoder(
    "scan.npy",
    pattern_mask=simulated.pattern_mask,
    latent_dim=8,
    max_patterns=5_000,
    output_dir="outputs",  # curves for TensorBoard, and checkpoints to resume from
    progress=False,
)
print(model.summary)

# %% [markdown]
# Latents and denoised patterns, as arrays.

# %%
embedding = latentstem.embed("scan.npy", model)
print(embedding.maps.shape, embedding.maps.dtype)
embedding.save("latents.npz")

patterns = latentstem.reconstruct("scan.npy", model)
print(patterns.shape, patterns.dtype)

# %% [markdown]
# A stack of patterns, such as a `.pt` file from a camera's own software, needs the shape of the scan.

# %%
stack = simulated.counts.reshape(-1, 1, 32, 32)
same = latentstem.embed(stack, model, scan_shape=(24, 20))
print("the same latents:", np.array_equal(same.maps, embedding.maps))

# %% [markdown]
# Fine-tuning: start from these weights on a new scan of the same detector.

# %%
model.save("ae.ckpt")
other = latentstem.simulate((12, 16), (32, 32), dose=500, n_grains=3, seed=1)
tuned = latentstem.train_autoencoder(
    other.counts, init_from="ae.ckpt", learning_rate=1e-4, max_patterns=2_000, progress=False
)
print(tuned)
print(sorted(path.name for path in Path().iterdir()))

# %% [markdown]
# From a command line, the same is:
#
#     latentstem train --data scan.npy --output_dir outputs --latent 8 --max_patterns 5000
#     latentstem embed --data scan.npy --model outputs/ae.ckpt --output latents.npz
#     latentstem reconstruct --data scan.npy --model outputs/ae.ckpt --output denoised.npy
