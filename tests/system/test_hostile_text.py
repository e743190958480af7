"""Words that others have written into names, titles and units act on nothing: page, terminal, pictures, network."""

from __future__ import annotations

import html.parser
import os
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import latentstem
from helpers import train
from latentstem.cli import app
from latentstem.cli.messages import escape_control_characters
from latentstem.errors import CheckpointError, FileError, StorageError
from latentstem.report import write_report
from latentstem.report.figures import draw_latent_maps
from latentstem.scan.scan import Axis

MARKUP = "<script>alert(1)</script>\"'><img src=http://a.b/c onerror=x>&amp;"
ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m[bold red]\u202egnp.\x00\r\n"
FORMULA = "$\\frac{1}{$ %s {0} \\input{/etc/passwd}"
ADDRESSES = [
    "http://127.0.0.1:9/a.npy",
    "https://example.org/a.ckpt",
    "s3://bucket/a.zspy",
    "gs://b/a",
    "file:///a.npy",
]


@pytest.fixture(scope="module")
def model(scan):
    return train(scan, epochs=1)


class Page(html.parser.HTMLParser):
    """Collects the elements of a page, and the sources of pictures."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "onerror")]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_page(model, scan, tmp_path):
    text = MARKUP + ESCAPES + FORMULA + "\udcff"
    opened = latentstem.as_scan(scan)
    named = tuple(replace(axis, name=text, units=text) for axis in opened.axes)
    opened = replace(opened, name=text, axes=named)
    model.autoencoder.hyper_parameters["scan"]["name"] = text
    page = Page(write_report(model, opened, tmp_path / f"{MARKUP[:8]}.html").read_text(encoding="utf-8"))
    assert page.tags <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p"),
        *("table", "tr", "td", "th", "ul", "li", "img"),
    }
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("units", [MARKUP, ESCAPES, FORMULA, "\udcff\udc80", "x" * 3000, "$"], ids=range(6))
@pytest.mark.parametrize("scale", [0.5, 0.0, np.nan, -1e300])
def test_pictures(tmp_path, units, scale):
    axes = tuple(Axis(units, size, scale, units=units) for size in (7, 5))
    maps = np.random.default_rng(0).normal(size=(7, 5, 2)).astype(np.float32)
    assert draw_latent_maps(latentstem.Embedding(maps, axes), tmp_path / "a.png").stat().st_size > 1000


def write_scan(path, scan, text):
    with h5py.File(path, "w") as file:
        group = file.create_group("Experiments/signal")
        group["data"] = scan
        for number in range(4):
            group.create_group(f"axis-{number}").attrs.update(
                name=text.replace("\0", ""),
                units=text.replace("\0", ""),
                scale=1.0,
                offset=0.0,
                navigate=number < 2,
            )


@pytest.mark.parametrize("text", [MARKUP, ESCAPES, FORMULA], ids=range(3))
def test_terminal(model, scan, tmp_path, text):
    write_scan(tmp_path / "a.hspy", scan, text)
    model.autoencoder.hyper_parameters["scan"]["name"] = text
    model.autoencoder.hyper_parameters["scan"]["axes"][0]["name"] = text
    for path in (tmp_path / "a.hspy", model.save(tmp_path / "a.ckpt")):
        result = CliRunner().invoke(app, ["info", str(path)])
        assert result.exit_code == 0, result.output
        assert not set(result.output) & set("\x1b\x07\x9b\u202e\x00\r")
    result = CliRunner().invoke(app, ["info", f"{tmp_path}/\x1b[2J\nerror: none.npy"])
    assert result.exit_code == 2
    assert "\x1b" not in result.output
    assert "\nerror: none" not in result.output


def test_escape_control_characters():
    assert escape_control_characters("3 Å^-1, µ [bold]") == "3 Å^-1, µ [bold]"
    assert escape_control_characters("\x1b[2J\n\udcff") == r"\x1b[2J\n\udcff"


@pytest.mark.parametrize(
    "name",
    ["a b", "a'b\"c", "ü→é", "a\nb", "%s {0}", "[1] *?", "-x", "#&;|", "\udcff", "n" * 200],
    ids=range(10),
)
def test_names_of_files(model, scan, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    np.save(folder / f"{name}.npy", scan)
    saved = model.save(folder / f"{name}.ckpt")
    embedding = latentstem.embed(folder / f"{name}.npy", saved)
    read = latentstem.Embedding.load(embedding.save(folder / f"{name}.npz"))
    np.testing.assert_array_equal(read.maps, embedding.maps)
    write_scan(folder / f"{name}.hspy", scan, "y")
    assert latentstem.as_scan(folder / f"{name}.hspy").scan_shape == scan.shape[:2]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_no_paths(model, scan, address):
    for call, error in (
        (lambda: latentstem.as_scan(address), FileError),
        (lambda: latentstem.Embedding.load(address), FileError),
        (lambda: latentstem.load(address), CheckpointError),
        (lambda: latentstem.Autoencoder.load_from_checkpoint(address), CheckpointError),
        (lambda: train(scan, resume_from=address), CheckpointError),
        (lambda: train(scan, init_from=address), CheckpointError),
        (lambda: train(scan, output_dir=address), StorageError),
        (lambda: model.save(address), StorageError),
        (lambda: write_report(model, scan, address), StorageError),
    ):
        with pytest.raises(
            error, match=r"a URL instead of a path.*nothing is read from or written to the network"
        ):
            call()


_OFFLINE = """
import os, socket, sys
def refuse(*arguments, **keywords):
    os.write(2, b"NETWORK %r" % (arguments,))
    os._exit(7)
family = socket.socket
class Socket(family):
    def connect(self, address):
        if self.family != socket.AF_UNIX:
            refuse(address)
        return super().connect(address)
    connect_ex = connect
socket.socket, socket.getaddrinfo, socket.create_connection = Socket, refuse, refuse
from latentstem.cli import app
for arguments in (
    ["train", "--data", "a.npy", "--output_dir", "out", "--max_patterns", "64", "--latent", "2", "--context", "0"],
    ["info", "out/ae.ckpt"],
    ["info", "a.npy"],
    ["embed", "--data", "a.npy", "--model", "out/ae.ckpt", "--output", "b.npz"],
    ["report", "out/ae.ckpt", "--data", "a.npy"],
):
    try:
        app(arguments)
    except SystemExit as end:
        if end.code:
            raise
"""


def test_nothing_reaches_for_the_network(scan, tmp_path):
    np.save(tmp_path / "a.npy", scan[:6, :5])
    done = subprocess.run(
        [sys.executable, "-c", _OFFLINE],
        cwd=tmp_path, env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:9"}, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "report.html").exists()
