"""The napari panel of LatentSTEM: train, explore and understand without programming.

``model`` knows neither Qt nor napari, ``layers`` are napari's layers, ``widgets`` are the docks. Importing the package
imports neither Qt nor torch; napari imports a widget when it is opened.
"""
