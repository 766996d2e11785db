# What CI runs is what you run. Two commands matter: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup

.PHONY: sdk-venvs heavy-runtimes test-sagemaker setup runtimes demo test check format unit bench soak chain wheel test-compiled serve docs requirements clean new-service new-noun

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml scripts/setup.sh $(wildcard pilvi/runtimes/environments/*.txt)
	PYTHON=$(PYTHON) VENV=$(VENV) sh scripts/setup.sh
	@touch $(STAMP)

runtimes: setup      ## the environments that jobs and functions run in
	$(BIN)/pilvi runtimes install scikit-learn algorithms lambda-python lambda-node notebook

demo: setup          ## the Titanic story, told by unmodified clients
	$(BIN)/python demo/titanic.py

test: setup check unit   ## every check and every test

check: setup         ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: runtimes
	$(BIN)/python -m pytest --ignore tests/heavy --numprocesses auto --maxprocesses 4 --dist loadfile

wheel: setup         ## the package as users install it, its hot path compiled, in .venv-wheel
	PYTHON=$(PYTHON) sh scripts/wheel.sh

test-compiled: wheel ## the tests of the compiled rooms, against the wheel
	PYTHONPATH=$$(echo $(CURDIR)/.venv-wheel/lib/python3*/site-packages) $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
		tests/auth tests/gateway tests/protocol \
		tests/services/s3 tests/services/iam tests/services/sts tests/storage

sdk-venvs:           ## both majors of the SageMaker Python SDK, in .venv-sdk2 and .venv-sdk3
	PYTHON=$(PYTHON) sh scripts/sdk_venvs.sh

heavy-runtimes: setup  ## the environments that only heavy jobs need: gigabytes
	$(BIN)/pilvi runtimes install algorithms pytorch tensorflow mxnet spark

test-sagemaker: runtimes heavy-runtimes sdk-venvs  ## what is too slow or too heavy for `make test`: frameworks, algorithms, SDKs, Spark, Ray
	PYTHON=$(PYTHON) sh scripts/heavy_env.sh ray kubernetes
	$(BIN)/python -m pytest tests/heavy

soak: setup          ## ten minutes (SOAK_MINUTES) of mixed load with kill -9 every minute: nothing acknowledged is lost
	PYTHONPATH=. $(BIN)/python tests/heavy/soak.py

chain: setup         ## 10,000 uploads in three minutes over a topic, two queues and two functions, with kill -9 every 10 seconds: all arrive
	PYTHONPATH=. $(BIN)/python tests/heavy/chain.py

bench: setup         ## speed and memory, beside peers, with ratios
	sh benchmarks/run.sh

serve: setup
	$(BIN)/pilvi up

docs: setup          ## write the generated pages again
	$(BIN)/python scripts/make_docs.py

requirements:        ## compile the pins again (needs network)
	$(BIN)/python -m pip install --quiet uv
	for f in requirements/*.in pilvi/runtimes/environments/*.in; do $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate $$f -o $${f%.in}.txt; done

clean:
	rm -rf $(VENV) build dist *.egg-info

new-service: setup   ## NAME=sns: the skeleton of a service
	$(BIN)/python scripts/new.py service $(NAME)

new-noun: setup      ## SERVICE=logs NAME=query_definition: the skeleton of a noun
	$(BIN)/python scripts/new.py noun $(SERVICE) $(NAME)
