"""The examples in CONTRIBUTING.md work: applied to a copy of the package, and run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from helpers import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: text of each section of "To add ..."
SECTIONS = dict(re.findall(r"^### (an? [\w ]+)\n(.*?)(?=^##)", TEXT, re.DOTALL | re.MULTILINE))
ALL = {"a network", "a likelihood", "a penalty", "an input format", "an output format", "a host"}


def blocks(section):
    return re.findall(r"^```(python|diff)\n(.*?)^```$", SECTIONS[section], re.DOTALL | re.MULTILINE)


def apply(block, language, folder):
    """Change the copied package as a block says; returns the code that is to be run."""
    first, rest = block.split("\n", 1)
    if first == "# try it":
        return rest
    path = folder / re.search(r"src/(\S+)$", first)[1]
    if language == "diff":
        lines = rest.splitlines()
        old, new = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        source = path.read_text(encoding="utf-8")
        assert source.count(old) == 1, f"{old!r} is not once in {path}"
        path.write_text(source.replace(old, new), encoding="utf-8")
    elif first.startswith("# at the end of "):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n\n" + rest)
    else:
        assert not path.exists()
        path.write_text(rest, encoding="utf-8")
    return ""


def test_every_kind_is_shown():
    assert set(SECTIONS) == ALL


@pytest.mark.parametrize("section", sorted(ALL))
def test_what_is_to_be_written_is_short(section):
    written = [block for _, block in blocks(section) if not block.startswith("# try it")]
    assert 0 < sum(len(block.splitlines()) for block in written) < 40


def test_examples_run(tmp_path):
    shutil.copytree(ROOT / "src" / "latentstem", tmp_path / "latentstem")
    code = "import numpy as np\nimport latentstem\n"
    code += f"assert latentstem.__file__.startswith({str(tmp_path)!r})\n"
    code += "counts = latentstem.simulate((7, 5), (32, 24), dose=300, n_grains=2).counts\n"
    for section in sorted(ALL):
        parts = [apply(block, language, tmp_path) for language, block in blocks(section)]
        assert any(parts)
        code += "\n".join(parts) + f"print({section!r}, 'works')\n"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("works") == len(ALL)
