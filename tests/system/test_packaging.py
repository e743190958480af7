"""What is shipped: entry points, files besides code, and the list of files in a wheel."""

from __future__ import annotations

import re
import subprocess
import zipfile
from importlib.metadata import entry_points
from importlib.resources import files

import pytest

from helpers import ROOT

SOURCES = {"latentstem": ROOT / "src", "napari_latentstem": ROOT / "napari_plugin"}


@pytest.mark.parametrize(
    ("group", "value"),
    [
        ("console_scripts", "latentstem.cli:app"),
        ("hyperspy.extensions", "latentstem"),
        ("napari.manifest", "napari_latentstem:napari.yaml"),
    ],
)
def test_entry_points(group, value):
    (found,) = entry_points(group=group, name="latentstem")
    assert found.value == value
    if group == "console_scripts":
        assert callable(found.load())


def test_files_besides_code():
    assert files("latentstem").joinpath("py.typed").is_file()
    manifest = files("napari_latentstem").joinpath("napari.yaml").read_text(encoding="utf-8")
    assert manifest.startswith("name: latentstem\n")
    extension = files("latentstem").joinpath("hyperspy_extension.yaml").read_text(encoding="utf-8")
    for module in set(re.findall(r"module: ([\w.]+)", extension)):
        path = SOURCES["latentstem"].joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file()


def test_a_wheel_holds_the_two_packages_and_nothing_else(tmp_path):
    builders = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds the wheel")
    (wheel,) = builders.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.partition("/")[2] for name in archive.namelist() if ".dist-info/" in name}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src", "napari_plugin"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert shipped == {path.partition("/")[2] for path in tracked if (ROOT / path).exists()}
    assert about == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
