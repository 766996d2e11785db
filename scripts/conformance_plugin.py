"""A pytest plugin for scripts/conformance.py: writes down what became of each test, and makes buckets as AWS did before April 2023."""

from __future__ import annotations

import json
import os
from typing import Any

import boto3
import pytest

plain = boto3.session.Session.client
EXCEPT = set(os.environ["CONFORMANCE_EXCEPT"].split())


def pytest_collection_modifyitems(items: list[Any]) -> None:
    for item in items:
        marks = sorted({mark.name for mark in item.iter_markers()} & EXCEPT)
        if marks:
            item.add_marker(pytest.mark.skip(reason=f"marked {', '.join(marks)}"))


def pytest_runtest_logreport(report: Any) -> None:
    if report.when != "call" and report.outcome == "passed":
        return
    if report.outcome == "skipped":
        why = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = crash.message.splitlines()[0][:200] if crash is not None else str(report.longrepr or "")[-200:]
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None and "PYTEST_XDIST_TESTRUNUID" in os.environ:
        return
    with open(os.environ["CONFORMANCE_RESULTS"], "a") as file:
        file.write(json.dumps({"test": report.nodeid, "outcome": report.outcome, "why": why, "when": report.when}) + "\n")


def pytest_configure() -> None:
    if os.environ["CONFORMANCE_BUCKETS"] == "2023":
        buckets_as_of_2023()


def buckets_as_of_2023() -> None:
    """Every client that boto3 makes asks for access control lists with a new bucket, and takes its public access block away."""

    def client(self: Any, *arguments: Any, **options: Any) -> Any:
        made = plain(self, *arguments, **options)
        if made.meta.service_model.service_name == "s3":
            made.meta.events.register("provide-client-params.s3.CreateBucket", with_lists)
            made.meta.events.register("after-call.s3.CreateBucket", lambda **told: unblock(made, **told))
        return made

    boto3.session.Session.client = client  # type: ignore[method-assign]


def with_lists(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    params.setdefault("ObjectOwnership", "ObjectWriter")
    context["list wanted"] = params.pop("ACL", None)
    context["bucket made"] = params.get("Bucket")


def unblock(made: Any, http_response: Any, context: dict[str, Any], **_: Any) -> None:
    if http_response.status_code == 200:
        keys = made._request_signer._credentials
        signer = plain(
            boto3.session.Session(keys.access_key, keys.secret_key, region_name="us-east-1"),
            "s3",
            endpoint_url=made.meta.endpoint_url,
        )
        signer.delete_public_access_block(Bucket=context["bucket made"])
        if context["list wanted"] is not None:
            signer.put_bucket_acl(Bucket=context["bucket made"], ACL=context["list wanted"])
