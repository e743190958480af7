"""Pictures of the napari panel: ``make screenshots`` writes docs/panel-<part>-<theme>-<width>.png.

A simulated scan is trained on in the panel itself; the pictures are those of its window, on both of napari's themes, at
1400 x 1000 and at 1024 x 700 pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_latentstem.layers.sessions import sessions_of
from napari_latentstem.widgets.panel import Panel

FOLDER = Path(__file__).parent
SIZES = ((1400, 1000), (1024, 700))
THEMES = ("dark", "light")
LATENTS, EPOCHS = 12, 12


def live(condition: Callable[[], bool], seconds: float) -> None:
    """Let the window live until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited for {seconds} s in vain")
        QApplication.processEvents()
        time.sleep(0.01)


def pause(seconds: float) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    live(lambda: time.monotonic() > end, seconds + 5)


def take(viewer: napari.Viewer, part: str) -> None:
    """The window on both themes and in both sizes."""
    for theme in THEMES:
        viewer.theme = theme
        for width, height in SIZES:
            viewer.window.resize(width, height)
            pause(0.3)
            viewer.reset_view()
            pause(0.7)
            picture = Image.fromarray(viewer.window.screenshot(canvas_only=False, flash=False)[..., :3])
            name = f"panel-{part}-{theme}-{width}.png"
            picture.save(FOLDER / name, optimize=True)
            print(f"{name}: {picture.width} x {picture.height} pixels", flush=True)


def show(panel: Panel, title: str) -> Any:
    """Bring a tab to the front."""
    panel.tabs.setCurrentIndex(list(panel.widgets).index(title))
    return panel.widgets[title]


def main() -> None:
    """Take all pictures."""
    viewer = napari.Viewer(show=True)
    viewer.open_sample("latentstem", "polycrystal")
    _, panel = viewer.window.add_plugin_dock_widget("latentstem", "LatentSTEM")
    (session,) = sessions_of(viewer)

    training = show(panel, "Train")
    training.form.set_value("latent_dim", LATENTS)
    training.form.set_length("epochs", EPOCHS)
    training.train.click()
    live(lambda: training.progress.value() > 0.4 * training.progress.maximum() > 1, 300)
    take(viewer, "training")
    live(lambda: training.job.session is None, 600)
    pause(2)
    take(viewer, "train")

    maps = show(panel, "Latent maps")
    maps.list.setCurrentRow(0)
    take(viewer, "maps")
    maps.show_composite.click()
    take(viewer, "composite")

    show(panel, "Patterns")
    session.position = (20, 40)
    pause(1)
    take(viewer, "patterns")

    space = show(panel, "Latent space")
    viewer.layers.selection.active = viewer.layers["simulated scan"]
    space.number.setValue(12)
    space.find_clusters.click()
    live(lambda: not space.working and "clusters" in space.message.text(), 60)
    pause(2)
    take(viewer, "latent-space")

    show(panel, "Model")
    take(viewer, "model")
    viewer.close()


if __name__ == "__main__":
    main()
