# Two lines do it all on a fresh Debian/Ubuntu machine with Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# What napari's window needs on a bare machine; the headless core needs none of it.
SYSTEM_PACKAGES := python3-venv xvfb libgl1 libegl1 libgl1-mesa-dri libxkbcommon-x11-0 libxcb-icccm4 \
	libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-cursor0

# A virtual display for the window's tests where there is none.
# Looked up when it is used: `system` may just have installed it.
DISPLAYED = $(if $(DISPLAY)$(WAYLAND_DISPLAY),,$(if $(shell command -v xvfb-run),xvfb-run -a -s "-screen 0 1600x1000x24"))

.PHONY: screenshots typed mypy reliability
.PHONY: demo demo-bundle test benchmark lint docs system install clean help

help:
	@echo "make demo    set everything up, then run the whole job on a simulated patient"
	@echo "make test    set everything up, then run all tests and linters"
	@echo "make reliability  kill every command at its file operations (an hour), docs/reliability.md"
	@echo "make lint    ruff, mypy and the documentation"
	@echo "make docs    the documentation, into build/docs"
	@echo "make demo-bundle  simulate the cohort and train the demonstration model anew"
	@echo "make clean   remove the virtual environment and caches"

demo: install
	$(BIN)/survpgc demo

# Makes resources/demo_bundle anew: about 70 minutes on 2 cores, half an hour of it for the slides.
COHORT := runs/simulated-cohort
demo-bundle: install
	$(BIN)/survpgc simulate --out $(COHORT) --patients 2000 --seed 2026 --workers 2
	$(BIN)/survpgc features $(COHORT)/slides/*.tiff --out $(COHORT)/features
	$(BIN)/survpgc train $(COHORT) --model survpgc_gene_sets --settings training/demo_bundle.toml --processes 2 \
		--out runs/demo
	$(BIN)/survpgc bundle runs/demo --out resources/demo_bundle --name "Demonstration (simulated patients)"

test: install lint
	$(DISPLAYED) $(BIN)/python -m pytest -n 2 --dist loadfile tests

benchmark: install
	$(BIN)/python -m tests.benchmarks.test_tissue_rate
	$(BIN)/python -m tests.benchmarks.test_feature_rate
	$(BIN)/python -m tests.benchmarks.test_window
	$(DISPLAYED) $(BIN)/python -m tests.benchmarks.test_shown
	$(DISPLAYED) $(BIN)/python -m tests.benchmarks.pan_zoom
	$(DISPLAYED) $(BIN)/python -m pytest -m benchmark tests/benchmarks

# The pictures of the README, of the window as it is now.
screenshots: install
	$(DISPLAYED) $(BIN)/python -m tests.screenshots.take

# Kills and faults at file operations of every command that writes, and docs/reliability.md from the counts: about an hour.
RELIABILITY := build/reliability
reliability: install
	$(BIN)/python -m tests.trust.kills --record $(RELIABILITY)
	$(BIN)/python -m tests.trust.kills --fault ENOSPC --every 3 --record $(RELIABILITY)
	$(BIN)/python -m tests.trust.kills --fault EIO --every 5 --record $(RELIABILITY)
	$(BIN)/python -m tests.trust.kills --fault EACCES --every 7 --record $(RELIABILITY)
	$(BIN)/python -m tests.trust.table $(RELIABILITY) docs/reliability.md

lint: install mypy docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Strict: a link or a reference to nothing fails. The variable is for a notice of the theme that is not about these pages.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# The installed layout as a tree of links, so that mypy sees the trainer under the name that commands import it by.
TYPED := build/typed/napari_survpgc
typed:
	@rm -rf build/typed && mkdir -p $(TYPED) && ln -s $(CURDIR)/napari_survpgc/* $(CURDIR)/training $(CURDIR)/resources $(TYPED)/

mypy: install typed
	$(BIN)/mypy

install: $(STAMP)

$(STAMP): pyproject.toml | system
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[app,train,test]"
	@touch $@

# Installs system libraries only where it may and where apt is the package manager; elsewhere it says what is missing.
system:
	@if command -v dpkg-query >/dev/null 2>&1; then \
		missing=""; \
		for p in $(SYSTEM_PACKAGES); do \
			dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q '^install ok installed' || missing="$$missing $$p"; \
		done; \
		if [ -n "$$missing" ]; then \
			if [ "$$(id -u)" = 0 ]; then run=""; \
			elif sudo -n true 2>/dev/null; then run="sudo -n"; \
			else echo "No permission to install system libraries; the window may need:$$missing"; exit 0; fi; \
			$$run apt-get update -qq && \
			DEBIAN_FRONTEND=noninteractive $$run apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
		fi; \
	fi

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
