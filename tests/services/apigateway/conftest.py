"""A call made by hand, for the pure parts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pilvi.services.apigateway.call import Call


def make(**changed):
    fields = {
        "api_id": "abcdefghij",
        "account": "123456789012",
        "region": "us-east-1",
        "stage": "prod",
        "variables": {"color": 'bl"ue'},
        "deployment_id": "dep123",
        "verb": "POST",
        "path": "/pets/7",
        "query": "a=1&b=x%20y&a=2",
        "headers": {"Host": ["h"], "X-Thing": ["t"]},
        "body": b"",
        "source_ip": "10.0.0.1",
        "request_id": "rid",
        "extended_id": "xid",
        "trace_id": "tid",
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "resource": {"id": "res", "path": "/pets/{id}"},
        "parameters": {"id": "7"},
    }
    return Call(**(fields | changed))


@pytest.fixture
def call():
    """Makes calls; members by name change the usual one."""
    return make
