"""The global condition keys of each kind of caller."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pilvi.auth.context import Overlay, global_context
from pilvi.auth.identity import Identity
from pilvi.core.principal import ANONYMOUS, Principal

A = "111122223333"
USER = Principal("user", A, f"arn:aws:iam::{A}:user/anna", "AIDAANNA", "anna")
SESSION = Principal("assumed-role", A, f"arn:aws:sts::{A}:assumed-role/r/s", "AROAR:s", "s", f"arn:aws:iam::{A}:role/p/r")
SERVICE = Principal("service", A, "", "lambda.amazonaws.com", "lambda.amazonaws.com", source_arn="arn:aws:s3:::bkt")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def keys(principal, **more):
    return global_context(
        principal, now=lambda: NOW, source_ip="10.0.0.1", secure=True, region="eu-west-1", user_agent="Boto3", **more
    )


@pytest.mark.parametrize(
    ("principal", "key", "value"),
    [
        (USER, "aws:currenttime", "2026-01-02T03:04:05Z"),
        (USER, "aws:epochtime", "1767323045"),
        (USER, "aws:sourceip", "10.0.0.1"),
        (USER, "aws:securetransport", "true"),
        (USER, "aws:requestedregion", "eu-west-1"),
        (USER, "aws:useragent", "Boto3"),
        (USER, "aws:username", "anna"),
        (USER, "aws:userid", "AIDAANNA"),
        (USER, "aws:principalarn", USER.arn),
        (USER, "aws:principalaccount", A),
        (USER, "aws:principaltype", "User"),
        (USER, "aws:principalisawsservice", "false"),
        (USER, "aws:viaawsservice", "false"),
        (USER, "aws:principalservicename", None),
        (USER, "aws:sourcearn", None),
        (USER, "aws:sourceaccount", None),
        (USER, "aws:tokenissuetime", None),
        (USER, "aws:multifactorauthpresent", None),
        (USER, "aws:sourceidentity", None),
        (USER, "aws:principaltag/team", None),
        (USER, "aws:unheardof", None),
        (SESSION, "aws:username", None),
        (SESSION, "aws:principalarn", SESSION.issuer_arn),
        (SESSION, "aws:principaltype", "AssumedRole"),
        (SESSION, "aws:userid", "AROAR:s"),
        (SERVICE, "aws:principalisawsservice", "true"),
        (SERVICE, "aws:principalservicename", "lambda.amazonaws.com"),
        (SERVICE, "aws:sourcearn", "arn:aws:s3:::bkt"),
        (SERVICE, "aws:sourceaccount", A),
        (SERVICE, "aws:principalaccount", None),
        (ANONYMOUS, "aws:principalarn", None),
        (ANONYMOUS, "aws:principalaccount", None),
        (ANONYMOUS, "aws:principaltype", "Anonymous"),
        (ANONYMOUS, "aws:userid", "anonymous"),
    ],
)
def test_keys(principal, key, value):
    assert keys(principal).get(key) == value


def test_what_a_session_was_made_with():
    session = {"tags": {"Team": "red"}, "source_identity": "anna"}
    identity = Identity(SESSION, "ASIA", "secret", "token", issued=NOW, session=session)
    facts = keys(SESSION, identity=identity)
    assert facts.get("aws:principaltag/team") == "red"
    assert facts.get("aws:principaltag/other") is None
    assert facts.get("aws:sourceidentity") == "anna"
    assert facts.get("aws:tokenissuetime") == "2026-01-02T03:04:05Z"
    assert facts.get("aws:multifactorauthpresent") == "false"


def test_keys_laid_over():
    facts = keys(USER) | {
        "S3:Prefix": "a",
        "aws:SourceIp": "1.2.3.4",
        "n": 5,
        "yes": True,
        "many": (1, "b"),
        "when": NOW,
        "none": None,
    }
    assert [facts.get(key) for key in ("s3:prefix", "aws:sourceip", "n", "yes", "many", "when", "none")] == [
        "a",
        "1.2.3.4",
        "5",
        "true",
        ["1", "b"],
        "2026-01-02T03:04:05Z",
        None,
    ]
    assert facts.get("aws:username") == "anna"
    assert (facts | {"s3:prefix": "b"}).get("s3:prefix") == "b"
    assert Overlay(None, {"a": "b"}).get("c") is None
    assert Overlay({"x": "y"}, {"a": "b"}).get("x") == "y"
