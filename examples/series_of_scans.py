# %% [markdown]
# # A series of scans
#
# In-situ, tilts, or several files: one model learns from all of them, and their latents can be compared.

# %%
import numpy as np

import latentstem

# %% [markdown]
# Two scans of one specimen: the second is smaller, and has vacuum in it. Patterns must have one shape; scan
# shapes, dtypes and calibrations may differ. Paths of files work as well; files are read in blocks.

# %%
first = latentstem.simulate((20, 16), (24, 24), dose=500, n_grains=4)
second = latentstem.simulate((12, 18), (24, 24), dose=500, n_grains=4, vacuum=0.2)
series = [first.counts, second.counts]

# %% [markdown]
# One scan mask for each, or None.

# %%
masks = [None, second.scan_mask]
model = latentstem.train_autoencoder(
    series, scan_mask=masks, latent_dim=8, max_patterns=5_000, progress=False
)
print(model)

# %% [markdown]
# One embedding for each, in one latent space.

# %%
embeddings = model.embed(series, scan_mask=masks)
for embedding in embeddings:
    print(embedding.maps.shape)

pooled = np.concatenate([embedding.maps.reshape(-1, 8) for embedding in embeddings])
pooled = pooled[np.isfinite(pooled).all(axis=1)]  # excluded positions are NaN
print(pooled.shape)

# %% [markdown]
# Denoised patterns of each.

# %%
denoised = model.reconstruct(series)
print([patterns.shape for patterns in denoised])

# %% [markdown]
# An array (T, Ny, Nx, H, W), a file of one, and a HyperSpy signal with three navigation axes are series too.

# %%
movie = np.stack([first.counts[:12, :12], first.counts[8:, 4:]])
print("scans in the movie:", len(model.embed(movie)))
