# Two commands do all on a machine with Python >= 3.10: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
# Extra flags of pip, for example: --extra-index-url https://download.pytorch.org/whl/cpu
PIP_FLAGS ?=
# Extra flags of the demo, for example: --seed 1
DEMO_FLAGS ?=

PIP = $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS)

.PHONY: demo readme test lint coverage clean

demo: $(VENV)/installed
	$(VENV)/bin/compalign demo $(DEMO_FLAGS)

# Puts the demo's table into the README.
readme: demo
	$(VENV)/bin/python -m compalign.scripts.update_readme demo/table.md README.md

test: $(VENV)/installed-dev lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

coverage: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --cov=compalign --cov-report=term

# torch comes first and pinned: a dependency that asks for it would pull the newest build.
$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable ".[dev,deepspeed,qlora,eval,space,browser]"
	touch $@

clean:
	rm -rf $(VENV) build demo
