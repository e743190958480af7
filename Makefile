# `make demo` and `make test` work in a fresh clone: each first sets up .venv, and again when what it is made of changes.
.DEFAULT_GOAL := help
.PHONY: help demo test lint types screenshots benchmark clean
.DELETE_ON_ERROR:

# What napari's window needs: a display without a screen (Xvfb), OpenGL in software, and the libraries of Qt.
DEBIAN_PACKAGES := xvfb xauth libgl1 libgl1-mesa-dri libegl1 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 \
	libxcb-image0 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xkb1 libxkbcommon-x11-0 libdbus-1-3 \
	libfontconfig1 libglib2.0-0

PYTHON := $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$python && break; done)
SET_UP := .venv/.set-up
DISPLAY_SET_UP := .venv/.display
ON_XVFB := $(if $(filter Linux,$(shell uname)),xvfb-run -a -s "-screen 0 1400x1000x24")
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## show this
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1\t\2/p' Makefile | expand -t 18

$(SET_UP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "LatentSTEM's set-up expects Python 3.11, found neither python3.11 nor a python3 of \
	that version on the PATH. Install it (on Debian 12: apt-get install python3 python3-venv)." >&2; exit 1; }
	test -x .venv/bin/pip || $(PYTHON) -m venv .venv || { echo "$(PYTHON) could not make .venv; on Debian \
	it needs: apt-get install python3-venv" >&2; exit 1; }
	.venv/bin/pip install --no-input --progress-bar off -c constraints.txt -e ".[all,dev]"
	touch $@

$(DISPLAY_SET_UP): $(SET_UP)
	@test "$$(uname)" != Linux || dpkg -s $(DEBIAN_PACKAGES) >/dev/null 2>&1 \
	|| { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(DEBIAN_PACKAGES); } \
	|| command -v xvfb-run >/dev/null \
	|| { echo "The tests of the napari panel need these Debian packages, or what your system calls them; install them \
	as root: $(DEBIAN_PACKAGES)" >&2; exit 1; }
	touch $@

demo: $(SET_UP)  ## simulate a scan, train on it, draw latent maps and reconstructions into demo_output/
	.venv/bin/latentstem demo --output_dir demo_output

# One thread for each of the two processes; numba (napari's labels) starts its own threads in torch's OpenMP, too.
test: $(DISPLAY_SET_UP)  ## run the tests, those of the napari panel on a display without a screen
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(ON_XVFB) .venv/bin/python -m pytest -n 2 --dist loadfile

lint: $(SET_UP)  ## check style, format and the layers of modules
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports

types: $(SET_UP)  ## check types
	.venv/bin/mypy

screenshots: $(DISPLAY_SET_UP)  ## take the pictures of the napari panel in docs/
	$(ON_XVFB) .venv/bin/python -W ignore docs/take_screenshots.py

benchmark: $(SET_UP)  ## measure against PCA and NMF on a quiet machine (hours); ONLY="quality speed" for parts
	.venv/bin/python -W ignore -m benchmarks $(if $(ONLY),--only $(ONLY))

clean:  ## remove .venv and everything made
	rm -rf .venv build dist demo_output htmlcov .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
