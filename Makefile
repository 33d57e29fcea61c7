# `make help` lists what there is. Works with GNU make from 3.81 on (that of macOS); the steps are scripts in tools/.
# PYTHON=python3.12 chooses the interpreter of .venv; WORKERS=4 the number of parallel tests.
PYTHON ?=
WORKERS ?= 2
export PYTHON WORKERS
# in the path of every command below; no absolute path, so that a folder may have spaces in its name
run := PATH="$$PWD/.venv/bin:$$PATH"
.DEFAULT_GOAL := help
.PHONY: help demo test export notebooks docs peers clean
.NOTPARALLEL:

help:  ## this list
	@echo "calibrax: benchmarks and evaluation for scientific machine learning in JAX"
	@sed -n 's/^\([a-z]*\):  *## \(.*\)/  make \1 # \2/p' Makefile | awk -F' # ' '{printf "%-18s%s\n", $$1, $$2}'
	@echo "PYTHON=python3.12 chooses the interpreter (3.11 or newer), WORKERS=4 the number of parallel tests."

demo:  ## install without extras into .venv and run `calibrax demo`
	@tools/venv.sh .venv
	@echo "==> calibrax demo"
	@$(run) python -m calibrax demo

test:  ## install with the dev extra into .venv and check everything (what CI runs)
	@tools/venv.sh .venv dev
	@$(run) tools/check.sh

export:  ## write calibrax/*.py from the notebooks
	@tools/venv.sh .venv dev
	@echo "==> exporting the notebooks to calibrax/"
	@$(run) nbdev_export
	@$(run) nbdev_clean

notebooks:  ## run every notebook in place and store its outputs, then write README.md
	@tools/venv.sh .venv dev
	@echo "==> exporting, then running every notebook in place"
	@$(run) nbdev_export
	@$(run) python tools/nbpy.py run
	@$(run) python tools/readme.py

docs:  ## render the site into _docs with Quarto; without Quarto, check its pages only
	@tools/venv.sh .venv dev
	@$(run) tools/docs.sh

peers:  ## install the rivals into .venv-peers and run the tests and benchmarks that measure them
	@tools/venv.sh .venv-peers dev,peers
	@PATH="$$PWD/.venv-peers/bin:$$PATH" tools/peers.sh

clean:  ## remove environments, caches and everything built (never a store of runs)
	rm -rf .venv .venv-peers .jax_cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist _docs _proc _site calibrax.egg-info
	find calibrax tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
