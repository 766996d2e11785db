"""Decisions, by the tables of the IAM User Guide's evaluation logic, and properties that hold for any policies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.auth import policy as policies_module
from pilvi.auth.policy import Policy, PolicySet, compiled, decide, needs_grant, parse
from pilvi.core.principal import ANONYMOUS, Principal
from pilvi.core.service import Access
from pilvi.testing.server import is_compiled

A, B = "111122223333", "444455556666"
ROOT = Principal("root", A, f"arn:aws:iam::{A}:root", A)
USER = Principal("user", A, f"arn:aws:iam::{A}:user/dev/anna", "AIDAANNA", "anna")
ROLE_ARN = f"arn:aws:iam::{A}:role/service-role/runner"
SESSION = Principal("assumed-role", A, f"arn:aws:sts::{A}:assumed-role/runner/s1", "AROARUNNER:s1", "s1", ROLE_ARN)
FEDERATED = Principal("federated-user", A, f"arn:aws:sts::{A}:federated-user/bob", f"{A}:bob", "bob", USER.arn)
STRANGER = Principal("user", B, f"arn:aws:iam::{B}:user/eve", "AIDAEVE", "eve")
LAMBDA = Principal(
    "service", A, "", "lambda.amazonaws.com", "lambda.amazonaws.com", source_arn=f"arn:aws:lambda:us-east-1:{A}:function:f"
)

OBJECT = "arn:aws:s3:::bkt/k"


def allow(action="s3:GetObject", resource=OBJECT, **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action="s3:GetObject", resource=OBJECT, **more):
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def document(*statements, version="2012-10-17"):
    return {"Version": version, "Statement": list(statements)}


def identity(*statements):
    return parse(document(*statements), "identity")


def bound(*statements, boundary=None, session=None):
    return PolicySet(
        (identity(*statements),) if statements else (),
        identity(*boundary) if boundary is not None else None,
        (identity(*session),) if session is not None else None,
    )


def ask(
    principal=USER,
    policies=None,
    *,
    action="s3:GetObject",
    resource=OBJECT,
    resource_policy=None,
    owner="",
    context=None,
    more=None,
    account=A,
):
    access = Access(action, resource, resource_policy, owner, more or {})
    return decide(principal, account, policies or PolicySet(), access, context or {})


def outcome(decision):
    return "allow" if decision.allowed else "deny" if decision.explicit else "silent"


NO_IDENTITY = "because no identity-based policy allows the s3:GetObject action"

# -- within an account --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("principal", "policies", "resource_policy", "expected", "reason"),
    [
        (USER, bound(), None, "silent", NO_IDENTITY),
        (USER, bound(allow()), None, "allow", ""),
        (USER, bound(allow(), deny()), None, "deny", "with an explicit deny in an identity-based policy"),
        (USER, bound(deny(), allow()), None, "deny", "with an explicit deny in an identity-based policy"),
        (USER, bound(allow("s3:PutObject")), None, "silent", NO_IDENTITY),
        (USER, bound(allow(resource="arn:aws:s3:::bkt/other")), None, "silent", NO_IDENTITY),
        # boundaries and session policies narrow, and deny
        (USER, bound(allow(), boundary=[allow("s3:*", "*")]), None, "allow", ""),
        (
            USER,
            bound(allow(), boundary=[allow("s3:Put*", "*")]),
            None,
            "silent",
            "because no permissions boundary allows the s3:GetObject action",
        ),
        (
            USER,
            bound(allow(), boundary=[allow("s3:*", "*"), deny()]),
            None,
            "deny",
            "with an explicit deny in a permissions boundary",
        ),
        (USER, bound(boundary=[allow("s3:*", "*")]), None, "silent", NO_IDENTITY),
        (SESSION, bound(allow(), session=[allow()]), None, "allow", ""),
        (
            SESSION,
            bound(allow(), session=[allow("s3:PutObject")]),
            None,
            "silent",
            "because no session policy allows the s3:GetObject action",
        ),
        (SESSION, bound(allow(), session=[allow("*", "*"), deny()]), None, "deny", "with an explicit deny in a session policy"),
        (SESSION, bound(session=[allow()]), None, "silent", NO_IDENTITY),
        (
            SESSION,
            PolicySet((identity(allow()),), None, ()),
            None,
            "silent",
            "because no session policy allows the s3:GetObject action",
        ),
        # the resource's own policy
        (USER, bound(), {"AWS": USER.arn}, "allow", ""),
        (USER, bound(), {"AWS": [STRANGER.arn, USER.arn]}, "allow", ""),
        (USER, bound(), {"AWS": "AIDAANNA"}, "allow", ""),
        (USER, bound(), "*", "allow", ""),
        (USER, bound(), {"AWS": "*"}, "allow", ""),
        (USER, bound(), {"AWS": STRANGER.arn}, "silent", NO_IDENTITY),
        (USER, bound(), {"AWS": A}, "silent", NO_IDENTITY),
        (USER, bound(), {"AWS": ROOT.arn}, "silent", NO_IDENTITY),
        (USER, bound(allow()), {"AWS": ROOT.arn}, "allow", ""),
        (USER, bound(boundary=[allow("s3:Put*", "*")]), {"AWS": USER.arn}, "allow", ""),
        (USER, bound(deny()), {"AWS": USER.arn}, "deny", "with an explicit deny in an identity-based policy"),
        (SESSION, bound(), {"AWS": SESSION.arn}, "allow", ""),
        (SESSION, bound(boundary=[allow("s3:Put*", "*")], session=[allow("s3:Put*", "*")]), {"AWS": SESSION.arn}, "allow", ""),
        (SESSION, bound(), {"AWS": ROLE_ARN}, "allow", ""),
        (SESSION, bound(), {"AWS": "AROARUNNER"}, "allow", ""),
        (
            SESSION,
            bound(boundary=[allow("s3:Put*", "*")]),
            {"AWS": ROLE_ARN},
            "silent",
            "because no permissions boundary allows the s3:GetObject action",
        ),
        (
            SESSION,
            bound(session=[allow("s3:Put*", "*")]),
            {"AWS": ROLE_ARN},
            "silent",
            "because no session policy allows the s3:GetObject action",
        ),
        (
            SESSION,
            bound(session=[allow("s3:Put*", "*")]),
            "*",
            "silent",
            "because no session policy allows the s3:GetObject action",
        ),
        (SESSION, bound(), {"AWS": f"arn:aws:sts::{A}:assumed-role/runner/other"}, "silent", NO_IDENTITY),
        (FEDERATED, bound(), {"AWS": FEDERATED.arn}, "allow", ""),
        (
            FEDERATED,
            bound(session=[allow("s3:Put*", "*")]),
            {"AWS": USER.arn},
            "silent",
            "because no session policy allows the s3:GetObject action",
        ),
        (FEDERATED, bound(), {"Federated": USER.arn}, "allow", ""),
        # root
        (ROOT, bound(), None, "allow", ""),
        (ROOT, bound(), {"AWS": USER.arn}, "allow", ""),
    ],
)
def test_within_an_account(principal, policies, resource_policy, expected, reason):
    own = document(allow(Principal=resource_policy)) if resource_policy else None
    decision = ask(principal, policies, resource_policy=own)
    assert (outcome(decision), decision.reason) == (expected, reason)


@pytest.mark.parametrize("who", [ROOT, USER, SESSION, FEDERATED])
@pytest.mark.parametrize("named", ["*", {"AWS": A}, {"AWS": ROOT.arn}])
def test_a_deny_in_the_resource_policy_binds_everybody_named(who, named):
    own = document(allow(Principal="*"), deny(Principal=named))
    decision = ask(who, bound(allow()), resource_policy=own)
    assert (outcome(decision), decision.reason) == ("deny", "with an explicit deny in a resource-based policy")


@pytest.mark.parametrize("action", ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"])
def test_root_can_always_mend_a_bucket_policy(action):
    own = document({"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"})
    assert ask(ROOT, action=action, resource_policy=own).allowed
    assert not ask(USER, bound(allow("s3:*", "*")), action=action, resource_policy=own).allowed
    assert not ask(ROOT, action="s3:ListBucket", resource_policy=own).allowed


# -- across accounts ----------------------------------------------------------------------------------------------------

NO_RESOURCE = "because no resource-based policy allows the s3:GetObject action"


@pytest.mark.parametrize(
    ("principal", "policies", "named", "expected", "reason"),
    [
        (USER, bound(allow()), None, "silent", NO_RESOURCE),
        (USER, bound(allow()), {"AWS": USER.arn}, "allow", ""),
        (USER, bound(allow()), {"AWS": ROOT.arn}, "allow", ""),
        (USER, bound(allow()), {"AWS": A}, "allow", ""),
        (USER, bound(allow()), "*", "allow", ""),
        (USER, bound(), {"AWS": USER.arn}, "silent", NO_IDENTITY),
        (USER, bound(), "*", "silent", NO_IDENTITY),
        (
            USER,
            bound(allow(), boundary=[allow("s3:Put*", "*")]),
            {"AWS": USER.arn},
            "silent",
            "because no permissions boundary allows the s3:GetObject action",
        ),
        (
            SESSION,
            bound(allow(), session=[allow("s3:Put*", "*")]),
            {"AWS": SESSION.arn},
            "silent",
            "because no session policy allows the s3:GetObject action",
        ),
        (SESSION, bound(allow()), {"AWS": ROLE_ARN}, "allow", ""),
        (ROOT, bound(), {"AWS": ROOT.arn}, "allow", ""),
        (ROOT, bound(), None, "silent", NO_RESOURCE),
        (STRANGER, bound(allow()), {"AWS": USER.arn}, "silent", NO_RESOURCE),
    ],
)
def test_across_accounts(principal, policies, named, expected, reason):
    own = document(allow(Principal=named)) if named else None
    decision = ask(principal, policies, resource_policy=own, owner="999999999999")
    assert (outcome(decision), decision.reason) == (expected, reason)


# -- key and trust policies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policies", "named", "expected"),
    [
        (bound(allow("kms:Decrypt", "*")), {"AWS": ROOT.arn}, "allow"),
        (bound(), {"AWS": ROOT.arn}, "silent"),
        (bound(allow("kms:Decrypt", "*")), {"AWS": STRANGER.arn}, "silent"),
        (bound(), {"AWS": USER.arn}, "allow"),
    ],
)
def test_key_policies_must_allow_by_themselves(policies, named, expected):
    own = document({"Effect": "Allow", "Principal": named, "Action": "kms:*", "Resource": "*"})
    assert (
        outcome(ask(USER, policies, action="kms:Decrypt", resource="arn:aws:kms:us-east-1:1:key/1", resource_policy=own))
        == expected
    )


def test_trust_policies_have_no_resource():
    trust = document({"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"})
    parse(trust, "trust")
    caller = Principal("service", A, "", "sagemaker.amazonaws.com", "sagemaker.amazonaws.com")
    assert ask(caller, action="sts:AssumeRole", resource=ROLE_ARN, resource_policy=trust).allowed
    assert not ask(LAMBDA, action="sts:AssumeRole", resource=ROLE_ARN, resource_policy=trust).allowed
    assert not ask(USER, bound(allow("sts:*", "*")), action="sts:AssumeRole", resource=ROLE_ARN, resource_policy=trust).allowed


# -- services and nobody ------------------------------------------------------------------------------------------------


def test_services_need_the_resource_policy_where_there_is_one():
    named = document(
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sns:Publish", "Resource": "*"}
    )
    other = document({"Effect": "Allow", "Principal": {"Service": ["s3.amazonaws.com"]}, "Action": "sns:Publish", "Resource": "*"})
    public = document({"Effect": "Allow", "Principal": "*", "Action": "sns:Publish", "Resource": "*"})
    assert ask(LAMBDA, action="sns:Publish", resource_policy=named).allowed
    assert ask(LAMBDA, action="sns:Publish", resource_policy=named, owner=B).allowed
    assert ask(LAMBDA, action="sns:Publish", resource_policy=public).allowed
    assert (
        ask(LAMBDA, action="sns:Publish", resource_policy=other).reason
        == "because no resource-based policy allows the sns:Publish action"
    )
    assert not ask(LAMBDA, action="sns:Publish").allowed
    assert ask(LAMBDA, action="logs:PutLogEvents", resource="*").allowed
    assert not ask(LAMBDA, action="logs:PutLogEvents", resource="*", resource_policy=document()).allowed
    assert not ask(LAMBDA, action="logs:PutLogEvents", resource="*", owner=B).allowed
    assert needs_grant("Lambda:InvokeFunction")


def test_services_may_be_bound_to_a_source():
    own = document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": "*",
            "Condition": {
                "ArnLike": {"aws:SourceArn": f"arn:aws:lambda:*:{A}:function:*"},
                "StringEquals": {"aws:SourceAccount": A},
            },
        }
    )
    context = policies_module.global_context(LAMBDA, now=None)
    other = policies_module.global_context(Principal("service", B, "", "lambda.amazonaws.com", "lambda.amazonaws.com"), now=None)
    assert ask(LAMBDA, action="sns:Publish", resource_policy=own, context=context).allowed
    assert not ask(LAMBDA, action="sns:Publish", resource_policy=own, context=other).allowed


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("*", "allow"),
        ({"AWS": "*"}, "allow"),
        ({"AWS": A}, "silent"),
        ({"Service": "*"}, "silent"),
        ({"CanonicalUser": "x"}, "silent"),
        (None, "silent"),
    ],
)
def test_nobody_may_only_what_everybody_may(named, expected):
    own = document(allow(Principal=named)) if named else None
    assert outcome(ask(ANONYMOUS, resource_policy=own)) == expected
    assert outcome(ask(ANONYMOUS, resource_policy=own, owner=B)) == expected


# -- NotPrincipal, NotAction, NotResource -------------------------------------------------------------------------------


def test_not_principal_denies_all_others():
    own = document(allow(Principal="*"), deny(NotPrincipal={"AWS": [USER.arn, A]}))
    assert ask(USER, resource_policy=own).allowed
    assert ask(ROOT, resource_policy=own).allowed
    assert outcome(ask(SESSION, bound(allow()), resource_policy=own)) == "deny"
    assert outcome(ask(STRANGER, bound(allow()), resource_policy=own, owner=A)) == "deny"
    assert outcome(ask(ANONYMOUS, resource_policy=own)) == "deny"


def test_not_principal_allows_all_others():
    own = document(allow(NotPrincipal={"AWS": USER.arn}))
    assert not ask(USER, resource_policy=own).allowed
    assert ask(SESSION, resource_policy=own).allowed


def test_not_action_and_not_resource():
    rights = bound(
        {"Effect": "Allow", "NotAction": ["iam:*", "s3:Put*"], "NotResource": ["arn:aws:s3:::secret", "arn:aws:s3:::secret/*"]}
    )
    assert ask(policies=rights).allowed
    assert not ask(policies=rights, action="s3:PutObject").allowed
    assert not ask(policies=rights, action="iam:ListUsers").allowed
    assert not ask(policies=rights, resource="arn:aws:s3:::secret/k").allowed


# -- actions, resources, variables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "action", "fits"),
    [
        ("*", "s3:GetObject", True),
        ("s3:*", "s3:GetObject", True),
        ("S3:getOBJECT", "s3:GetObject", True),
        ("s3:Get*", "s3:GetObject", True),
        ("s3:*Object", "s3:GetObject", True),
        ("s3:?etObject", "s3:GetObject", True),
        ("s3:Get", "s3:GetObject", False),
        ("s3:GetObject?", "s3:GetObject", False),
        ("sqs:*", "s3:GetObject", False),
    ],
)
def test_action_patterns(pattern, action, fits):
    assert ask(policies=bound(allow(pattern)), action=action).allowed is fits


@pytest.mark.parametrize(
    ("pattern", "resource", "fits"),
    [
        ("*", OBJECT, True),
        ("arn:aws:s3:::bkt/*", "arn:aws:s3:::bkt/a/b:c", True),
        ("arn:aws:s3:::bkt/*", "arn:aws:s3:::bkt", False),
        ("arn:aws:s3:::BKT/*", OBJECT, False),
        ("arn:aws:s3:::b?t/k", OBJECT, True),
        ("arn:aws:s3:::b*/k*y", "arn:aws:s3:::bkt/k-e-y", True),
        ("arn:aws:s3:::*/*/x", "arn:aws:s3:::bkt/x", False),
        ("arn:aws:s3:::bkt/k", "*", False),
        ("arn:aws:s3:::${aws:username}/*", "arn:aws:s3:::anna/x", True),
        ("arn:aws:s3:::${aws:username}/*", "arn:aws:s3:::bob/x", False),
        ("arn:aws:s3:::${AWS:UserName}/*", "arn:aws:s3:::anna/x", True),
        ("arn:aws:s3:::${aws:PrincipalTag/team}/*", "arn:aws:s3:::red/x", True),
        ("arn:aws:s3:::${nobody:knows}/*", "arn:aws:s3:::/x", False),
        ("arn:aws:s3:::${nobody:knows, 'dflt'}/*", "arn:aws:s3:::dflt/x", True),
        ("arn:aws:s3:::${nobody:knows, dflt}/*", "arn:aws:s3:::dflt/x", False),
        ("arn:aws:s3:::${star:key}/x", "arn:aws:s3:::anything/x", False),
        ("arn:aws:s3:::${star:key}/x", "arn:aws:s3:::*/x", True),
        ("arn:aws:s3:::b${*}t/x", "arn:aws:s3:::b*t/x", True),
        ("arn:aws:s3:::b${*}t/x", "arn:aws:s3:::bkt/x", False),
        ("arn:aws:s3:::b${?}${$}/x", "arn:aws:s3:::b?$/x", True),
        ("arn:aws:s3:::${open/x", "arn:aws:s3:::${open/x", True),
    ],
)
def test_resource_patterns(pattern, resource, fits):
    context = {"aws:username": "anna", "aws:PrincipalTag/team": "red", "star:key": "*", "many:key": ["a", "b"]}
    decision = ask(policies=bound(allow(resource=pattern)), resource=resource, context=context)
    assert decision.allowed is fits
    both = bound(allow(resource=["arn:aws:s3:::unrelated", pattern]))
    assert ask(policies=both, resource=resource, context=context).allowed is fits
    assert ask(policies=both, resource="arn:aws:s3:::unrelated", context=context).allowed


def test_variables_mean_nothing_in_the_old_version():
    own = document(allow(resource="arn:aws:s3:::${aws:username}/x", Principal="*"), version="2008-10-17")
    assert ask(resource="arn:aws:s3:::${aws:username}/x", resource_policy=own, context={"aws:username": "anna"}).allowed
    assert not ask(resource="arn:aws:s3:::anna/x", resource_policy=own, context={"aws:username": "anna"}).allowed


def test_a_variable_nobody_fills_never_widens():
    pattern = "arn:aws:s3:::${no:key}/*"
    assert not ask(policies=bound({"Effect": "Allow", "Action": "*", "NotResource": pattern})).allowed
    assert outcome(ask(policies=bound(allow(), {"Effect": "Deny", "Action": "*", "NotResource": pattern}))) == "deny"
    filled = {"no:key": "bkt"}
    assert not ask(policies=bound({"Effect": "Allow", "Action": "*", "NotResource": pattern}), context=filled).allowed
    assert ask(policies=bound({"Effect": "Allow", "Action": "*", "NotResource": pattern}), context={"no:key": "x"}).allowed


def test_conditions_see_request_and_resource_keys_in_any_case():
    rights = bound(allow(Condition={"StringEquals": {"S3:Prefix": "a/", "aws:username": "anna"}}))
    assert ask(policies=rights, context={"AWS:Username": "anna"}, more={"s3:prefix": "a/"}).allowed
    assert not ask(policies=rights, context={"AWS:Username": "anna"}, more={"s3:prefix": "b/"}).allowed
    assert not ask(policies=rights, context={"AWS:Username": "anna", "s3:prefix": "b/"}).allowed


def test_the_account_of_the_resource_is_known():
    own = document(allow(Principal="*"))
    rights = bound(allow(Condition={"StringEquals": {"aws:ResourceAccount": A}}))
    assert ask(policies=rights).allowed
    assert ask(policies=rights, owner=A).allowed
    assert not ask(policies=rights, resource_policy=own, owner=B).allowed


def test_resource_policies_of_one_statement_and_of_none():
    assert ask(resource_policy={"Version": "2012-10-17", "Statement": allow(Principal="*")}).allowed
    assert not ask(resource_policy={}).allowed
    assert not ask(resource_policy={"Version": "2012-10-17", "Statement": []}).allowed
    assert not ask(resource_policy=document(allow())).allowed
    assert compiled(document(allow(Principal="*"))) is compiled(document(allow(Principal="*")))


@pytest.mark.skipif(is_compiled(policies_module), reason="reaches into a module that is compiled here")
def test_a_policy_remembers_only_so_many_actions(monkeypatch):
    monkeypatch.setattr(policies_module, "_ACTIONS_KEPT", 3)
    rights = identity(allow("s3:*"))
    for number in range(10):
        assert rights.statements_on(f"s3:Action{number}")
        assert len(rights._by_action) <= 3
    assert Policy().statements_on("s3:GetObject") == ()


def test_a_policy_knows_its_keys():
    rights = identity(allow(resource="arn:aws:s3:::${aws:username}/*", Condition={"StringLike": {"s3:prefix": "${aws:userid}/*"}}))
    assert rights.context_keys == {"aws:username", "s3:prefix", "aws:userid"}
    assert Policy().context_keys == frozenset()


# -- properties ---------------------------------------------------------------------------------------------------------

ACTIONS = st.sampled_from(["s3:GetObject", "s3:Get*", "s3:*", "*", "s3:PutObject", "iam:*"])
RESOURCES = st.sampled_from([OBJECT, "arn:aws:s3:::bkt/*", "*", "arn:aws:s3:::other/*", "arn:aws:s3:::${aws:username}/*"])
CONDITIONS = st.sampled_from(
    [{}, {"Bool": {"aws:SecureTransport": "true"}}, {"StringNotEquals": {"aws:username": "bob"}}, {"Null": {"aws:nothing": "true"}}]
)


@st.composite
def statements(draw, effect=None):
    return {
        "Effect": effect or draw(st.sampled_from(["Allow", "Deny"])),
        draw(st.sampled_from(["Action", "NotAction"])): draw(ACTIONS),
        draw(st.sampled_from(["Resource", "NotResource"])): draw(RESOURCES),
        "Condition": draw(CONDITIONS),
    }


def named(statement, who):
    return {**statement, "Principal": who}


POLICIES = st.lists(statements(), min_size=1, max_size=4)
CALLERS = st.sampled_from([USER, SESSION, FEDERATED, STRANGER])
CONTEXT = {"aws:username": "anna", "aws:SecureTransport": "false"}
NAMED = st.sampled_from(["*", {"AWS": USER.arn}, {"AWS": ROLE_ARN}, {"AWS": A}])


@given(CALLERS, POLICIES, st.none() | POLICIES, POLICIES, NAMED, st.integers(0, 2))
def test_an_explicit_deny_always_wins(caller, own, boundary, resource, who, place):
    everything = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    resource = [named(statement, who) for statement in resource]
    if place == 0:
        own = [*own, everything]
    elif place == 1:
        boundary = [*(boundary or []), everything]
    else:
        resource = [*resource, named(everything, "*")]
    rights = bound(*own, boundary=boundary)
    assert outcome(ask(caller, rights, resource_policy=document(*resource), context=CONTEXT)) == "deny"


@given(CALLERS, POLICIES, POLICIES, NAMED, statements(effect="Deny"), st.booleans())
def test_another_deny_never_allows_more(caller, own, resource, who, more, to_resource):
    resource = [named(statement, who) for statement in resource]
    before = ask(caller, bound(*own), resource_policy=document(*resource), context=CONTEXT)
    if to_resource:
        resource = [*resource, named(more, who)]
    else:
        own = [*own, more]
    after = ask(caller, bound(*own), resource_policy=document(*resource), context=CONTEXT)
    assert before.allowed or not after.allowed


@given(CALLERS, POLICIES, POLICIES)
def test_a_boundary_never_allows_more(caller, own, boundary):
    assert (
        ask(caller, bound(*own), context=CONTEXT).allowed
        or not ask(caller, bound(*own, boundary=boundary), context=CONTEXT).allowed
    )


@given(CALLERS, POLICIES)
def test_the_order_of_statements_does_not_matter(caller, own):
    assert outcome(ask(caller, bound(*own), context=CONTEXT)) == outcome(ask(caller, bound(*own[::-1]), context=CONTEXT))
    split = PolicySet(tuple(identity(statement) for statement in own))
    assert outcome(ask(caller, bound(*own), context=CONTEXT)) == outcome(ask(caller, split, context=CONTEXT))
