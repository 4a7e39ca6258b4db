.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test test-chart soak check format bench docs reference tiny-model images clean

help: ## show this text
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt scripts/install.py
	@echo "installing into $(VENV) (the first time takes a minute or two)"
	@$(PYTHON) scripts/install.py $(VENV)
	@touch $@

demo: $(STAMP) ## set everything up and run the main job: tune a small model, serve it, ask it
	@$(BIN)/python -m kaito.cli.main demo --folder .demo

test: $(STAMP) ## set up what tests need and run them
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not soak'

test-chart: $(STAMP) ## install Helm's SDK (75 MB) and test the chart, the packages and the operator's image
	@$(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt --editable '.[helm]'
	@KAITO_REQUIRE_HELM=1 $(BIN)/python -m pytest tests/chart tests/install/test_packages.py tests/install/test_image.py -k 'not torch'

soak: $(STAMP) ## run the tests that take minutes each
	@$(BIN)/python -m pytest -m soak

check: $(STAMP) ## ruff, mypy strict and the layers of the house
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(STAMP) ## format and mend what ruff can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(STAMP) ## run the benchmarks; each prints a table
	@for b in benchmarks/*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

docs: $(STAMP) ## build the documents into .site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet && echo "open .site/index.html"

reference: $(STAMP) ## write anew what is made from the code: the chart, docs/reference, what tests expect commands to print
	@$(BIN)/python scripts/make_chart.py && $(BIN)/python scripts/reference
	@UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/cli/test_golden.py

tiny-model: $(STAMP) ## train the built-in model again from its seed
	@$(BIN)/python scripts/make_tiny_model.py

images: ## build the images with docker, podman or buildah (ENGINE, REGISTRY and IMAGES say otherwise)
	@$(PYTHON) scripts/build_images.py $(if $(ENGINE),--engine $(ENGINE)) $(if $(REGISTRY),--registry $(REGISTRY)) $(IMAGES)

clean: ## remove the environment and what the demo left
	rm -rf $(VENV) .demo .site .tools
