# `make demo` and `make test` work in a fresh clone: each first sets up .venv, and again when what it is made of changes.
.DEFAULT_GOAL := help
.PHONY: help demo test lint types benchmark clean
.DELETE_ON_ERROR:

# Debian packages that have to be there, installed by the set-up. None yet.
DEBIAN_PACKAGES :=

PYTHON := $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$python && break; done)
SET_UP := .venv/.set-up
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## show this
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1\t\2/p' Makefile | expand -t 18

$(SET_UP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "LatentSTEM's set-up expects Python 3.11, found neither python3.11 nor a python3 of \
	that version on the PATH. Install it (on Debian 12: apt-get install python3 python3-venv)." >&2; exit 1; }
	$(if $(DEBIAN_PACKAGES),apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
	--no-install-recommends $(DEBIAN_PACKAGES))
	test -x .venv/bin/pip || $(PYTHON) -m venv .venv || { echo "$(PYTHON) could not make .venv; on Debian \
	it needs: apt-get install python3-venv" >&2; exit 1; }
	.venv/bin/pip install --no-input --progress-bar off -c constraints.txt -e ".[all,dev]"
	touch $@

demo: $(SET_UP)  ## simulate a scan, train on it, draw latent maps and reconstructions into demo_output/
	.venv/bin/latentstem demo --output_dir demo_output

test: $(SET_UP)  ## run the tests
	.venv/bin/python -m pytest

lint: $(SET_UP)  ## check style and format
	.venv/bin/ruff check
	.venv/bin/ruff format --check

types: $(SET_UP)  ## check types
	.venv/bin/mypy

benchmark: $(SET_UP)  ## measure against PCA and NMF on a quiet machine (hours); ONLY="quality speed" for parts
	.venv/bin/python -W ignore -m benchmarks $(if $(ONLY),--only $(ONLY))

clean:  ## remove .venv and everything made
	rm -rf .venv build dist demo_output htmlcov .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
