"""The shape of the source tree: no circle of imports, small modules, tests that mirror it. ``pytest -s`` prints the numbers."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from helpers import ROOT

PACKAGES = {"latentstem": ROOT / "src", "napari_latentstem": ROOT / "napari_plugin"}
MAX_LINES, MAX_MEDIAN = 350, 120


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package):
    """Imports inside functions are counted."""
    grimp = pytest.importorskip("grimp", reason="import-linter brings it")
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    names = np.array(sorted(graph.modules))
    imports = np.array(
        [[name in graph.find_modules_directly_imported_by(module) for name in names] for module in names]
    )
    _, circles = connected_components(imports, connection="strong")
    largest = names[circles == np.bincount(circles).argmax()]
    print(f"\n{package}: {len(names)} modules; modules in the largest circle: {len(largest)}")
    assert len(largest) == 1, largest


def test_layers_are_kept():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_are_small():
    lines = {}
    for package, root in PACKAGES.items():
        found = {path: len(path.read_text("utf-8").splitlines()) for path in (root / package).rglob("*.py")}
        print(f"\n{package}: {sum(found.values())} lines, median {statistics.median(found.values()):.0f}")
        lines |= found
    longest = max(lines, key=lines.__getitem__)
    print(
        f"both: median {statistics.median(lines.values()):.0f}; the longest, {longest.name}, has {lines[longest]}"
    )
    assert statistics.median(lines.values()) < MAX_MEDIAN
    assert lines[longest] <= MAX_LINES, longest


def test_tests_mirror_the_source():
    folders = {path.name for path in (ROOT / "src" / "latentstem").iterdir() if any(path.glob("*.py"))}
    tested = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders <= tested
    assert tested <= folders | {"napari_plugin", "system"}
