# Everything runs inside .venv, which the first target that needs it creates.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# one computing thread a process: notebooks and tests run in parallel over the cores, and timings stay comparable
export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help book test lab bench results case-study clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(PIP) --editable '.[book,test]'
	-@git config filter.nbstripout.clean '"$(CURDIR)/$(BIN)/python" -m nbstripout' 2>/dev/null
# ipykernel 7 warns once a kernel that local TCP is not encrypted: noise in a book of local kernels
	@mkdir -p $(VENV)/etc/ipython && echo 'c.IPKernelApp.log_level = 40' > $(VENV)/etc/ipython/ipython_kernel_config.py
	@touch $@

book: $(READY)  ## execute every chapter on the shipped data and build the HTML
	$(BIN)/python book/build.py

lab: $(READY)  ## open the chapters in JupyterLab
	$(BIN)/jupyter lab --notebook-dir chapters

test: $(READY)  ## everything that must hold: style, code, notebooks, book, pages
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify $$(find chapters -name '*.ipynb' -not -path '*checkpoints*' -not -name student.ipynb)
	$(BIN)/python tests/pages/browser.py --install
	$(BIN)/pytest -q -n auto --doctest-modules dca_lab
	$(BIN)/pytest -q -n auto tests --ignore tests/pages
# nbval: one notebook stays on one worker (loadfile), or its cells would be split over several kernels. keep_results
# puts what passed into the book's cache: the longest part of this run is done once
	DCA_QUIET=1 PYTHONPATH=book $(BIN)/pytest -q -n auto --dist loadfile -p keep_results --nbval-lax --nbval-cell-timeout 300 chapters
	$(BIN)/python book/build.py
	$(BIN)/pytest -q -n auto tests/pages

bench: $(READY)  ## speed and accuracy beside other libraries (an hour; one with .venv/bin/python -m bench NAME)
	$(PIP) --editable '.[bench]'
	$(BIN)/python -m bench

results: $(READY)  ## train and measure the table of chapter practice/results anew, and store it (half an hour)
	$(BIN)/dca study results

case-study: $(READY)  ## train and measure chapter math/case-study anew, and store it (an hour)
	$(BIN)/dca study case-study

clean:  ## remove what was built (the installed .venv stays)
	rm -rf _build
