"""Does the plugin slow napari's start? Seconds to a first window, with it and with it disabled, by turns.

Run as ``xvfb-run -a python -m benchmarks.napari_startup``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

_RUNS = 7  # of each kind
_START = """
import json, sys, time
begun = time.perf_counter()
from npe2 import PluginManager
if {disabled}:
    PluginManager.instance().discover()
    PluginManager.instance().disable("latentstem")
import napari
viewer = napari.Viewer(show=True)
napari.qt.get_qapp().processEvents()
seconds = time.perf_counter() - begun
heavy = [name for name in ("latentstem", "torch", "napari_latentstem", "matplotlib") if name in sys.modules]
plugins = [manifest.name for manifest in PluginManager.instance().iter_manifests(disabled=False)]
print(json.dumps([seconds, heavy, "latentstem" in plugins]))
viewer.close()
"""


def start(disabled: bool) -> tuple[float, list[str], bool]:
    """Seconds to a window in a fresh interpreter, which modules of ours that loaded, and whether the plugin is on."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _START.format(disabled=disabled)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, heavy, on = json.loads(run.stdout.splitlines()[-1])
    return seconds, heavy, on


def main() -> None:
    """Measure, and print a line for each kind."""
    start(disabled=False)  # files come into the cache
    times: dict[bool, list[float]] = {False: [], True: []}
    loaded: set[str] = set()
    for _ in range(_RUNS):
        for disabled in times:
            seconds, heavy, on = start(disabled)
            if on is disabled:
                raise SystemExit("the plugin is not installed, or could not be disabled")
            times[disabled].append(seconds)
            loaded.update([] if disabled else heavy)
    for disabled, seconds in times.items():
        quarter = statistics.quantiles(seconds, n=4)
        print(
            f"{'without' if disabled else 'with   '} the plugin: {quarter[1]:.2f} s to a window "
            f"(median of {_RUNS}, quartiles {quarter[0]:.2f} to {quarter[2]:.2f})"
        )
    print(f"loaded at start: {', '.join(sorted(loaded)) or 'nothing of it'}")


if __name__ == "__main__":
    main()
