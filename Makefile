# Two commands do all on a machine with Python >= 3.10: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
# Extra flags of pip, for example: --extra-index-url https://download.pytorch.org/whl/cpu
PIP_FLAGS ?=
# Extra flags of the demo, for example: --seed 1
DEMO_FLAGS ?=

PIP = $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS)

.PHONY: demo readme test lint types coverage docs clean

demo: $(VENV)/installed
	$(VENV)/bin/compalign demo $(DEMO_FLAGS)

# Runs the demo, and puts its table into the README.
readme: $(VENV)/installed
	$(VENV)/bin/compalign demo --readme README.md $(DEMO_FLAGS)

test: $(VENV)/installed-dev lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2

lint: $(VENV)/installed-dev types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# mypy does not follow the mapping of an editable install, so it gets a folder in which the package stands as imported.
types: $(VENV)/installed-dev
	rm -rf build/types && mkdir -p build/types/compalign
	for folder in modeling trainers data evaluation hub_cards scripts; do \
		ln -s $(CURDIR)/$$folder build/types/compalign/$$folder; \
	done
	ln -s $(CURDIR)/scripts/package/__init__.py $(CURDIR)/scripts/package/__init__.pyi build/types/compalign/
	cd build/types && $(abspath $(VENV))/bin/mypy --config-file $(CURDIR)/pyproject.toml

coverage: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --cov=compalign --cov-report=term

# Builds the guides and the API reference into build/docs; needs Python >= 3.11.
docs: $(VENV)/installed-docs
	$(VENV)/bin/python docs/build.py

# torch comes first and pinned: a dependency that asks for it would pull the newest build.
$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable ".[dev,deepspeed,qlora,eval,space,browser]"
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(PIP) --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build demo
