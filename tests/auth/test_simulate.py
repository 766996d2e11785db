"""Trying policies out, and how a refusal is worded."""

from __future__ import annotations

import pytest

from pilvi.auth.denial import denied
from pilvi.auth.policy import Decision, PolicySet, parse
from pilvi.auth.simulate import Match, simulate
from pilvi.core.principal import ANONYMOUS, Principal
from pilvi.core.service import Access

A = "111122223333"
USER = Principal("user", A, f"arn:aws:iam::{A}:user/anna", "AIDAANNA", "anna")
OBJECT = "arn:aws:s3:::bkt/k"


def policy(source, *statements):
    return parse(
        {"Version": "2012-10-17", "Statement": [{"Resource": "*", **statement} for statement in statements]}, "identity", source
    )


READ = policy(
    "read",
    {"Sid": "Read", "Effect": "Allow", "Action": "s3:Get*"},
    {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::secret/*"},
)


def test_each_action_on_each_resource_in_order():
    results = simulate(USER, A, PolicySet((READ,)), ["s3:GetObject", "s3:PutObject"], [OBJECT, "arn:aws:s3:::secret/k"])
    assert [(result.action, result.resource, result.decision) for result in results] == [
        ("s3:GetObject", OBJECT, "allowed"),
        ("s3:GetObject", "arn:aws:s3:::secret/k", "explicitDeny"),
        ("s3:PutObject", OBJECT, "implicitDeny"),
        ("s3:PutObject", "arn:aws:s3:::secret/k", "implicitDeny"),
    ]
    assert results[0].matched == (Match("identity", "read", 0, "Read"),)
    assert results[1].matched == (Match("identity", "read", 1, ""),)
    assert results[2].matched == ()
    assert results[0].allowed_by_boundary is None


def test_no_resources_mean_any():
    assert [result.resource for result in simulate(USER, A, PolicySet((READ,)), ["s3:GetObject"], [])] == ["*"]


@pytest.mark.parametrize(("actions", "allowed"), [("s3:*", True), ("sqs:*", False)])
def test_boundaries_are_told_apart(actions, allowed):
    boundary = policy("limit", {"Effect": "Allow", "Action": actions})
    (result,) = simulate(USER, A, PolicySet((READ,), boundary), ["s3:GetObject"], [OBJECT])
    assert result.allowed_by_boundary is allowed
    assert result.decision == ("allowed" if allowed else "implicitDeny")


def test_resource_policies_and_sessions_take_part():
    own = {
        "Version": "2012-10-17",
        "Statement": [{"Sid": "Mine", "Effect": "Allow", "Principal": {"AWS": USER.arn}, "Action": "s3:*", "Resource": "*"}],
    }
    (result,) = simulate(USER, A, PolicySet(), ["s3:GetObject"], [OBJECT], resource_policy=own)
    assert (result.decision, result.matched) == ("allowed", (Match("resource", "", 0, "Mine"),))
    session = policy("session", {"Effect": "Allow", "Action": "s3:PutObject"})
    (result,) = simulate(USER, A, PolicySet((READ,), None, (session,)), ["s3:GetObject"], [OBJECT])
    assert result.decision == "implicitDeny"
    (result,) = simulate(
        USER, A, PolicySet((READ,)), ["s3:GetObject"], [OBJECT], resource_policy=own, resource_account="444455556666"
    )
    assert {match.role for match in result.matched} == {"identity", "resource"}


def test_missing_context_is_named():
    rights = policy(
        "p",
        {
            "Effect": "Allow",
            "Action": "*",
            "Resource": "arn:aws:s3:::${aws:username}/*",
            "Condition": {"StringEquals": {"s3:Prefix": "x"}},
        },
    )
    limit = policy("b", {"Effect": "Allow", "Action": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}})
    own = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"Null": {"a:b": "false"}}},
    }
    (result,) = simulate(USER, A, PolicySet((rights,), limit), ["s3:GetObject"], context={"S3:prefix": "x"}, resource_policy=own)
    assert result.missing == ("a:b", "aws:SecureTransport", "aws:username")


# -- wording ------------------------------------------------------------------------------------------------------------

SILENT = Decision(False, False, "because no identity-based policy allows the s3:GetObject action")
WHO = f"User: arn:aws:iam::{A}:user/anna is not authorized to perform: "


@pytest.mark.parametrize(
    ("principal", "access", "protocol", "service", "code", "status", "message"),
    [
        (
            USER,
            Access("s3:GetObject", OBJECT),
            "rest-xml",
            "s3",
            "AccessDenied",
            403,
            f'{WHO}s3:GetObject on resource: "{OBJECT}" {SILENT.reason}',
        ),
        (USER, Access("s3:ListAllMyBuckets"), "rest-xml", "s3", "AccessDenied", 403, f"{WHO}s3:ListAllMyBuckets {SILENT.reason}"),
        (
            USER,
            Access("s3:GetObject", OBJECT, resource_account="999999999999"),
            "rest-xml",
            "s3",
            "AccessDenied",
            403,
            "Access Denied",
        ),
        (ANONYMOUS, Access("s3:GetObject", OBJECT), "rest-xml", "s3", "AccessDenied", 403, "Access Denied"),
        (
            USER,
            Access("iam:ListUsers", "arn:x"),
            "query",
            "iam",
            "AccessDenied",
            403,
            f"{WHO}iam:ListUsers on resource: arn:x {SILENT.reason}",
        ),
        (
            USER,
            Access("lambda:ListFunctions"),
            "rest-json",
            "lambda",
            "AccessDeniedException",
            403,
            f"{WHO}lambda:ListFunctions on resource: * {SILENT.reason}",
        ),
        (USER, Access("logs:X"), "json", "logs", "AccessDeniedException", 400, f"{WHO}logs:X on resource: * {SILENT.reason}"),
        (
            USER,
            Access("ec2:X"),
            "ec2",
            "ec2",
            "UnauthorizedOperation",
            403,
            f"You are not authorized to perform this operation. {WHO}ec2:X on resource: * {SILENT.reason}",
        ),
    ],
)
def test_refusals(principal, access, protocol, service, code, status, message):
    error = denied(principal, access, SILENT, protocol, service)
    assert (error.code, error.status, error.message) == (code, status, message)
