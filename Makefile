# Two commands for a newcomer: `make demo` and `make test`. Everything they need goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types format check-corpora figures clean

demo: $(STAMP) ## train a Transformer on word problems, evaluate it, solve a few, write runs/demo/report.html
	$(BIN)/hanformer demo --out runs/demo

test: $(STAMP) ## the whole suite, with lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check-corpora: $(STAMP) ## every line of the real corpora under HANFORMER_DATA against other tokenizers
	$(BIN)/python -m tests.text.check_corpora "$(HANFORMER_DATA)"

figures: $(STAMP) ## the laboratory's figures in docs/figures, drawn again
	for name in taylor gelu positions batchnorm rnn-gradients; do \
		$(BIN)/hanformer lab $$name --out runs/lab/$$name && cp runs/lab/$$name/*.svg docs/figures/ || exit 1; \
	done

# Installed anew only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Hanformer needs Python 3.11 or newer; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[plot,test,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build *.egg-info
