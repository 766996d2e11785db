"""Clients that call AWS's own host names: an access point or an account stands in the name, so the server is their proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.config import Config

from pilvi.testing.server import Account, TestServer


@pytest.fixture(scope="module")
def reach(server: TestServer) -> Iterator[Callable[..., Any]]:
    """`reach(account, "s3control")` is a boto3 client of that account without an endpoint of its own, closed in the end."""
    server.cloud.authority.prepare()
    trusted = str(server.cloud.authority.certificate_path)
    made: dict[tuple[str, str, str], Any] = {}

    def make(account: Account, service: str, **settings: Any) -> Any:
        key = (account.access_key_id, service, repr(settings))
        if key not in made:
            region = settings.pop("region_name", account.region)
            config = Config(proxies={"https": server.endpoint}, retries={"total_max_attempts": 1}, **settings)
            made[key] = account.session.client(service, region_name=region, verify=trusted, config=config)
        return made[key]

    yield make
    for each in made.values():
        each.close()
