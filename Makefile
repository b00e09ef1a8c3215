# `make figures` and `make test` are all that a newcomer needs; `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help figures test test-slow test-faults test-colab test-oldest notebooks exercises results-page sweep benchmark benchmark-growth benchmark-literature benchmark-replicas gpu-check pretrained clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1|/' | column -t -s '|'

figures: $(VENV)/ready  ## run the notebooks: figures and results.json, into figures/
	$(BIN)/python notebooks/run.py

test: $(VENV)/ready  ## run the linter, the tests, and every notebook against its stored outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --nbval -n 2

test-slow: $(VENV)/ready  ## run the tests that take long: more combinations, scripts and processes whole
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow tests

test-faults: $(VENV)/ready  ## kill, fill and repeat trainings: seven minutes of tests that break things
	$(BIN)/python -m pytest -n 2 --dist worksteal -m faults tests

# Keras 3.13.0 asks NumPy for `object` as it is imported, and NumPy warns: no notebook stores that.
QUIET := ignore::FutureWarning:keras.src.export.tf2onnx_lib
test-colab:  ## run the tests and notebook 03 with the versions that Colab has
test-oldest:  ## run them with the oldest versions that pyproject.toml allows
test-colab test-oldest: test-%: .venv-%/ready
	PYTHONWARNINGS=$(QUIET) .venv-$*/bin/python -m pytest --nbval -n 2 tests notebooks/03_training.ipynb

notebooks: $(VENV)/ready  ## run the notebooks and store what they print and draw
	$(BIN)/python notebooks/run.py --store
	$(BIN)/python scripts/make_results_page.py

exercises: $(VENV)/ready  ## run the solutions of the notebooks' exercises, and store what came out
	$(BIN)/python notebooks/solve.py

results-page: $(VENV)/ready  ## write the stored numbers into docs/results.md and the READMEs
	$(BIN)/python notebooks/furnish.py
	$(BIN)/python scripts/make_results_page.py

sweep: $(VENV)/ready  ## search latent size, width, rate and β on the validation digits (two minutes; STORAGE=address joins others)
	$(BIN)/python scripts/sweep.py $(if $(STORAGE),--storage '$(STORAGE)')

benchmark: $(VENV)/ready  ## measure speed beside PyTorch, JAX and plain Keras (a quarter of an hour; BEFORE=commit adds older code)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-benchmark.txt
	$(BIN)/python benchmarks/run.py $(if $(BEFORE),--before $(BEFORE))

benchmark-growth: $(VENV)/ready  ## measure what updates and bounds cost as sizes grow, beside JAX and PyTorch (ten minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-benchmark.txt
	$(BIN)/python benchmarks/growth.py

benchmark-literature: $(VENV)/ready  ## train the literature's network by JAX and PyTorch too, and compare bounds (twenty minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-benchmark.txt
	$(BIN)/python benchmarks/literature_peers.py

benchmark-replicas: $(VENV)/ready  ## measure what a second process gains (five minutes)
	$(BIN)/python benchmarks/replicas.py

gpu-check: $(VENV)/ready  ## train on a GPU, and compare with the processor (some nine minutes)
	$(BIN)/python benchmarks/gpu.py

pretrained: $(VENV)/ready  ## train the weights that come with the package (needs all of MNIST)
	$(BIN)/python scripts/train_pretrained.py

clean:  ## remove the environments, and the folders that runs make in figures/
	rm -rf $(VENV) .venv-colab .venv-oldest figures/*/ build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments are made afresh when a requirement changes; `ready` is written last, so half an
# environment is none.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; $$($(PYTHON) --version) was found. Try: make PYTHON=python3.12"; exit 1; }
	rm -f $@
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES)
	touch $@
endef

$(VENV)/ready: PACKAGES = -r requirements.txt
$(VENV)/ready: requirements.txt pyproject.toml
	$(environment)

.venv-%/ready: PACKAGES = -e '.[test,tfds]' -c $<
.venv-%/ready: constraints/%.txt pyproject.toml
	$(environment)
