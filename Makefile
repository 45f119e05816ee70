# Everything a developer does, one word each. `make` alone lists the words.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
EXTRAS ?= synthesize,dev

# real captures, splats and meshes for the tests that want them; skipped where the folder is absent
GAUSSIANVAE_DATA ?= $(abspath $(wildcard ../shared/data))
export GAUSSIANVAE_DATA
# other programs that the tests read and write splats with; skipped where `make peers` has not been run
PEERS := $(abspath runs/peers)
GAUSSIANVAE_PEERS ?= $(wildcard $(PEERS))
export GAUSSIANVAE_PEERS
# threads that spin while they wait steal the cores of whoever works
OMP_WAIT_POLICY ?= passive
export OMP_WAIT_POLICY

SHARDS ?= runs/shards
# training meshes whose licences allow shipped weights; without the data folder only procedural scenes are used
TRAINING_MESHES := big_beer big_cereal big_crisps big_mug big_mustard big_saucepan big_soda big_spatula big_table \
  edw_fantasy_village_cypress_tree edw_polypizza_rock_path_round_wide edw_polypizza_rock_path_square_small gom_Corset \
  lib_chefmate_8_frypan lib_glazed_rim_porcelain_ramekin ph_painted_wooden_cabinet ph_painted_wooden_cabinet_02 \
  ph_painted_wooden_stool ph_wooden_table_02
MESHES = $(if $(GAUSSIANVAE_DATA),$(wildcard $(TRAINING_MESHES:%=$(GAUSSIANVAE_DATA)/assets/%.glb)))
WEIGHTS ?= src/gaussianvae/model/data/weights.safetensors

.DEFAULT_GOAL := help
.PHONY: help setup test test-slow peers lint format demo bench docs weights clean

help: ## list these words
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(BIN)/.ready ## make the environment in .venv

$(BIN)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

test: setup ## run the tests (minutes)
	$(BIN)/python -m pytest

test-slow: setup ## run the tests that take long, too
	$(BIN)/python -m pytest -m ''

peers: setup ## install other splat programs for the tests, into runs/peers (npm; 300 MB)
	mkdir -p $(PEERS)
	npm install --silent --prefix $(PEERS) node@22 @playcanvas/splat-transform@3.7
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'gsply==0.4.6'

lint: setup ## style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## put the code into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: setup ## capture -> fit -> enhance -> evaluate on a small scene, into runs/demo
	$(BIN)/gaussianvae demo -o runs/demo

bench: setup ## time the rasterizer
	$(BIN)/python benchmarks/rasterizer.py --json runs/rasterizer.json

docs: setup ## build the documentation into site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict --quiet

weights: setup ## re-make the shipped weights from nothing (hours: scenes, fits, training; resumes)
	$(BIN)/gaussianvae factory -o $(SHARDS) $(if $(MESHES),--mesh-drafts 5 --meshes $(MESHES))
	$(BIN)/gaussianvae train $(SHARDS) -o $(WEIGHTS) --work runs/training --bfloat16

clean: ## remove what can be made again, but for the environment and runs/
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
