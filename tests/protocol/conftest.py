"""One index of services for all protocol tests; models are loaded per test and let go again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

from pilvi.protocol.models import Models
from pilvi.protocol.route import Router

sys.path.insert(0, str(Path(__file__).parent))


settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def index_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    Models(folder)
    return folder


@pytest.fixture
def models(index_dir: Path) -> Models:
    return Models(index_dir)


@pytest.fixture
def router(models: Models) -> Router:
    return Router(models)
