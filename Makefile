# make setup   the environment for pre-training, without compiled operators
# make demo    pre-train on photographs for a few minutes, write a report
# make demo-transfer  classify, segment and detect with what the demo learnt
# make reproduce  the paper's claims in a small experiment; PRESET=tiny, small, paper
# make test    the whole test suite, with mmseg, mmdet and compiled operators
# make test-gpu  what needs a GPU, and nothing else; says so where there is none
# make test-fast  the fast tests, without mmseg, mmdet and compiled operators
# make test-matrix  make test on the newest and on the lowest supported versions of
#              the packages, make test-fast on the other versions of Python
# make format  mend what ruff can mend
# make lint    ruff and mypy
# make docs    the pages of docs/, into build/docs
#
# STACK=openmmlab  the same on the classic package stack (its own environment)
# PYTHON=...       the Python to start from; VENV=... the environment's folder

STACK ?= onedl
VENV := $(if $(filter openmmlab,$(STACK)),.venv-openmmlab,.venv)
# The first is what continuous integration runs. PyTorch 2.1 has no newer one.
PYTHONS := 3.11 $(if $(filter openmmlab,$(STACK)),,3.12 3.13 3.10)
PYTHON ?= $(shell for version in $(PYTHONS); do \
	  python$$version -c '' 2>/dev/null && echo python$$version && break; done)
# What is written on make's command line would reach all programs; PYTHON is also what
# tools/*.sh start, and must be the environment's there.
unexport PYTHON STACK VENV
PINS := $(wildcard requirements/*.txt) setup.py tools/setup_environment.py
BASE := $(VENV)/.installed-base
FULL := $(VENV)/.installed-downstream
SETUP = $(if $(PYTHON),$(PYTHON),$(error None of Python $(PYTHONS) was found: install \
	one with its venv module, or name it with `make PYTHON=/path/to/python3`)) \
	tools/setup_environment.py --stack $(STACK) --venv $(VENV)

.PHONY: help setup demo demo-transfer reproduce test test-fast test-gpu test-matrix \
	format lint docs
help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

setup: $(BASE)

$(BASE): $(PINS)
	$(SETUP)
	@touch $@

$(FULL): $(PINS)
	$(SETUP) --downstream
	@touch $(BASE) $@

demo demo-transfer reproduce test test-fast test-gpu: export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

demo: $(BASE)
	python tools/demo

demo-transfer: $(FULL)
	python tools/transfer/demo_transfer.py

PRESET ?= tiny
reproduce: $(BASE)
	python tools/reproduce --preset $(PRESET)

test: $(FULL)
	python -m pytest -m '' --strict-optional -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(BASE)
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-gpu: $(FULL)
	python -m pytest -m gpu -rs

test-matrix:
	$(MAKE) test STACK=onedl
	$(MAKE) test STACK=openmmlab
	for version in $(wordlist 2,9,$(PYTHONS)); do \
	  if python$$version -c '' 2>/dev/null; then \
	    $(MAKE) test-fast PYTHON=python$$version VENV=.venv-$$version || exit; \
	  else echo "Python $$version is not on this machine: not tested"; fi; done

# What checks the code and builds the pages; types are checked against the stack.
TOOLS := .venv-tools
$(TOOLS)/.installed: requirements/docs.txt requirements/lint.txt
	$(or $(PYTHON),python3) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install -q -r requirements/docs.txt -r requirements/lint.txt
	@touch $@

format: $(TOOLS)/.installed
	$(TOOLS)/bin/ruff check --fix .

lint: $(TOOLS)/.installed $(BASE)
	$(TOOLS)/bin/ruff check .
	$(TOOLS)/bin/mypy --python-executable $(VENV)/bin/python

docs: $(TOOLS)/.installed
	$(TOOLS)/bin/mkdocs build
