"""The napari panel of LatentSTEM: train, look and understand without programming.

The widgets are in modules of their own, which napari imports when one of them is opened; importing this package
imports neither Qt nor torch. Everything the panel does is a call of `latentstem`.
"""
