"""A web server that hears topics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.sns.stage import Web


@pytest.fixture
def web() -> Iterator[Web]:
    running = Web()
    yield running
    running.close()
