# make demo    prepares a corpus, pretrains a small ALBERT and lets it fill masks; a rerun resumes
# make test    installs, lints and runs the tests
# make torture kills, stops and damages runs, many times (KILLS=100); the slow tests
# make slurm   submits the launch scripts to a SLURM of this machine alone, stops and kills
#              their jobs (needs Debian's slurm-wlm)
# make notebooks     runs the notebooks whole, at their real size, into build/notebooks
#                      (35 minutes on two cores; NOTEBOOKS="3 4" picks; 6 fetches models)
# make test-beam     prepares by Apache Beam, in .venv-beam
# make test-interop  compares with transformers and TensorFlow, in .venv-interop
# make docs    builds the documentation into build/site, in .venv-docs; a warning is an error
# make benchmark       measures speed beside our peers, each in an environment of its own
#                      (an hour and 5 GB; CASES="step/base/8x128 ..." picks, TEXT=FILE adds
#                      what reads text, VOCABULARY=FILE is its SentencePiece model)
# make clean   removes what these leave behind, except runs/ and prepared/
#
# Each target installs what it needs into .venv, pinned by constraints/, when that has
# changed. Another interpreter: make test PYTHON=python3.12 VENV=.venv-3.12

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The core that must hold on every supported JAX: the model's mathematics, rows of data.
CORE := config losses model optimizer checkpoint metrics segments masking layers draws

# An index with a build of PyTorch without CUDA, which needs a tenth of the space:
# make test-interop TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

# Of benchmark: which cases (all), a text, and its vocabulary (one is trained).
CASES ?=
TEXT ?=
VOCABULARY ?=
PEERS := peer-pytorch peer-flax peer-keras

# Of notebooks: which, by their numbers.
NOTEBOOKS ?= 1 2 3 4 5 6

# How often make torture kills a run.
KILLS ?= 100

.PHONY: demo test test-core torture slurm notebooks test-beam test-interop parity lint docs benchmark $(PEERS) clean

demo: $(VENV)/installed-demo
	$(BIN)/albert-jax pretrain experiments/demo.py
	$(BIN)/albert-jax fill-mask runs/demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-core: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not thorough" \
	    $(CORE:%=tests/test_%.py)

torture: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 -m slow
	$(BIN)/python tests/torture.py --kills $(KILLS) --report docs/faults.md

slurm: $(VENV)/installed-test
	$(BIN)/python tests/slurm.py

# In a folder of their own, since they leave runs behind; what is run again goes on there.
notebooks: $(VENV)/installed-test
	@mkdir -p build/notebooks
	cp $(NOTEBOOKS:%=notebooks/%_*.ipynb) build/notebooks
	$(BIN)/python -m jupyter execute --inplace --timeout=-1 \
	    $(NOTEBOOKS:%=build/notebooks/%_*.ipynb)

# An environment of its own: Apache Beam wants other versions of protobuf and pyarrow.
test-beam: .venv-beam/installed
	.venv-beam/bin/python -m pytest -n 2 tests/test_beam.py

# An environment of its own: `make test` stays as quick as without PyTorch.
test-interop:
	@$(MAKE) --no-print-directory parity VENV=$(VENV)-interop

parity: PIP_OPTIONS = $(TORCH_INDEX:%=--extra-index-url %)
parity: $(VENV)/installed-interop-test
	$(BIN)/python -m pytest -n 2 tests/test_parity.py tests/test_parity_finetuning.py \
	    tests/test_interop_tokenizer.py tests/test_interop_files.py

# An environment of its own: docstrings are read, so that building needs no JAX.
docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict
	@echo "The documentation is build/site/index.html"

benchmark: $(VENV)/installed-test $(PEERS)
	$(BIN)/python benchmarks/compare.py $(CASES) $(TEXT:%=--text %) \
	    $(VOCABULARY:%=--vocabulary %)

$(PEERS): %: .venv-%/installed

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv .venv-newest .venv-interop .venv-beam .venv-docs $(PEERS:%=.venv-%) build dist *.egg-info .pytest_cache .ruff_cache
	find albert_jax benchmarks experiments tests -name __pycache__ -prune -exec rm -rf {} +

# One stamp per extra: demo, test, interop-test.
$(VENV)/installed-%: setup.cfg pyproject.toml $(wildcard constraints/*.txt) | $(BIN)/python
	@echo "Installing albert_jax[$*] into $(VENV) (about 1 GB; a minute or two) ..."
	@pins=$$($(BIN)/python -c 'import sys; print("py311" if sys.version_info < (3, 12) else "py312")') && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints/$$pins.txt --constraint constraints/interop.txt \
	    $(PIP_OPTIONS) --editable '.[$*]'
	@touch $@

.venv-beam/installed: setup.cfg constraints/beam.txt
	@echo "Installing albert_jax[beam-test] into .venv-beam (about 1 GB; minutes) ..."
	@$(PYTHON) -m venv .venv-beam
	@.venv-beam/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints/beam.txt --editable '.[beam-test]'
	@touch $@

.venv-docs/installed: constraints/docs.txt
	@echo "Installing $< into .venv-docs (100 MB; seconds) ..."
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.venv-peer-%/installed: constraints/peer-%.txt
	@echo "Installing $< into $(@D) (1 to 3 GB; some minutes) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check \
	    $(TORCH_INDEX:%=--extra-index-url %) --requirement $<
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || \
	    { echo "there is no $(PYTHON); name a Python of 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python %d.%d, but albert_jax needs 3.11 or newer: make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
