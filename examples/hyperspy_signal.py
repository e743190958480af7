# %% [markdown]
# # Latent maps of a HyperSpy or pyxem signal
#
# Signals get three methods when `latentstem` is imported: `train_autoencoder`, `embed` and `reconstruct`. They work
# the same on pyxem's signals and on lazy ones. This script writes its files into the current folder.

# %%
import hyperspy.api as hs
import numpy as np
from sklearn.cluster import KMeans

import latentstem

# %% [markdown]
# A signal with two navigation axes (the scan) and two signal axes (the pattern). Yours comes from `hs.load`; this one
# is simulated: five grains, 500 electrons in each diffraction pattern.

# %%
simulated = latentstem.simulate((24, 20), (32, 32), dose=500, n_grains=5)
signal = hs.signals.Signal2D(simulated.counts)
for axis in signal.axes_manager.navigation_axes:
    axis.scale, axis.units = simulated.scan_step, "nm"
for axis in signal.axes_manager.signal_axes:
    axis.scale, axis.units = simulated.pixel_size, "1/angstrom"
print(signal)

# %% [markdown]
# Train. Bad scan positions and detector pixels can be excluded, under HyperSpy's names and meaning (True excludes).

# %%
signal_mask = np.zeros(simulated.counts.shape[2:], dtype=bool)
signal_mask[0, :] = True
model = signal.train_autoencoder(latent_dim=8, max_patterns=5_000, signal_mask=signal_mask, progress=False)
print(model.summary)

# %% [markdown]
# Latent maps are a signal: the latents on the navigation axis, the scan on the signal axes. It plots, slices, and is
# saved like any other.

# %%
maps = signal.embed(model)
maps.save("latents.hspy", overwrite=True)
print(maps)

# %% [markdown]
# Grains are clusters of the latents, which are clustered as they are: distances between them are those between patterns.

# %%
grains = KMeans(5, n_init=4, random_state=0).fit_predict(maps.as_loadings()).reshape(24, 20)
print(grains)

# %% [markdown]
# The denoised signal has the same class, axes and metadata. That of a lazy signal is lazy, too.

# %%
denoised = signal.as_lazy().reconstruct(model)
print(denoised)
pattern = denoised.inav[3, 4]
pattern.compute(show_progressbar=False)
print(f"{simulated.counts[4, 3].sum()} electrons recorded, {pattern.data.sum():.1f} in the reconstruction")

# %%
model.save("ae.ckpt")
