# `make figures` and `make test` are all that a newcomer needs; `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help figures test notebooks benchmark pretrained clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1|/' | column -t -s '|'

figures: $(VENV)/ready  ## run the notebooks: figures and results.json, into figures/
	$(BIN)/python notebooks/run.py

test: $(VENV)/ready  ## run the linter, the tests, and every notebook against its stored outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --nbval -n 2

notebooks: $(VENV)/ready  ## run the notebooks and store what they print and draw
	$(BIN)/python notebooks/run.py --store

benchmark: $(VENV)/ready  ## measure speed beside PyTorch, JAX and plain Keras (a quarter of an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-benchmark.txt
	$(BIN)/python benchmarks/run.py

pretrained: $(VENV)/ready  ## train the weights that come with the package (needs all of MNIST)
	$(BIN)/python -c 'from vae_tf import pretrained; pretrained.main()'

clean:  ## remove the environment and everything made from the sample
	rm -rf $(VENV) figures/sample build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made afresh when a requirement changes; `ready` is written last, so half an environment is none.
$(VENV)/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; $$($(PYTHON) --version) was found. Try: make PYTHON=python3.12"; exit 1; }
	rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
