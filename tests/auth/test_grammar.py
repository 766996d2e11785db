"""Documents that AWS takes, and its sentence for each that it does not."""

from __future__ import annotations

import json

import pytest

from pilvi.auth.policy import MalformedPolicy, parse

ARN = "arn:aws:s3:::example_bucket"
GOOD = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": ARN}
ANYONE = {**GOOD, "Principal": "*"}
TRUST = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}

SYNTAX = "Syntax errors in policy."
LEGACY = "The policy failed legacy parsing"
VENDOR = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
RESOURCES = "Policy statement must contain resources."
ACTIONS = "Policy statement must contain actions."


def policy(*statements, **more):
    return {"Version": "2012-10-17", "Statement": list(statements), **more}


def changed(base=GOOD, **more):
    return {name: value for name, value in {**base, **more}.items() if value is not None}


def refused(document, kind="identity"):
    with pytest.raises(MalformedPolicy) as caught:
        parse(document, kind)
    assert str(caught.value) == caught.value.message
    return caught.value.message


# -- identity policies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        "This is not a json document",
        "",
        "[]",
        '"x"',
        '{"Version": "2012-10-17", "Statement": [],}',
        '{"Version": "2012-10-17", "Statement": NaN}',
        "[" * 100_000,
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Version": "2012-10-17"},
        {"Version": "2012-10-17", "Statement": []},
        {"Version": "2012-10-17", "Statement": ["afd"]},
        {"Version": "2012-10-17", "Statement": "x"},
        {"Version": "2013-10-17", "Statement": [GOOD]},
        {"Version": ["2012-10-17"], "Statement": [GOOD]},
        policy(GOOD, Extra="x"),
        policy(GOOD, Id=["x"]),
        policy(changed(Extra="x")),
        policy(changed(Effect="perhaps")),
        policy(changed(Effect=None)),
        policy(changed(Effect=["Allow"])),
        policy(changed(Resource={"a": ARN})),
        policy(changed(Resource=[ARN, {}])),
        policy(changed(NotResource=[])),
        policy(changed(Action=[[]])),
        policy(changed(Action={})),
        policy(changed(NotAction="s3:x")),
        policy(changed(Sid={})),
        policy(changed(Condition=[])),
        policy(changed(Condition="a")),
        policy(changed(Condition={"a": "b"})),
        policy(changed(Condition={"DateGreaterThan": []})),
        policy(changed(Condition={"DateGreaterThan": {"a": {}}})),
        policy(changed(Condition={"x": {"a": "1"}})),
        policy(changed(Condition={"ForAnyValue::StringEqualsIfExists": {"a": "b"}})),
        policy(changed(Principal=[])),
        policy(changed(Principal={})),
        policy(changed(Principal={"AWS": 5})),
    ],
)
def test_syntax(document):
    assert refused(document) == SYNTAX


@pytest.mark.parametrize("version", [None, "2008-10-17"])
def test_identity_policies_are_of_the_new_version(version):
    document = changed({"Version": version, "Statement": [GOOD]})
    assert refused(document) == "Policy document must be version 2012-10-17 or greater."


@pytest.mark.parametrize(
    "statement",
    [
        changed(Effect="denY"),
        changed(Condition={"DateGreaterThan": {"a": "sdfdsf"}}),
        changed(Condition={"NumericLessThan": {"a": "x"}}),
        changed(Condition={"DateGreaterThan": {"a": "x"}}, Action=None),
        changed(Resource="arn:aws:s3::example_bucket"),
        changed(Resource=None, NotResource="arn:aws:s3::example_bucket"),
        changed(Resource="arn:aws::::example_bucket"),
        changed(Resource="arn:aws::fdsasf"),
    ],
)
def test_legacy(statement):
    assert refused(policy(statement)) == LEGACY


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ([changed(Sid="a"), changed(Sid="a")], "Statement IDs (SID) in a single policy must be unique."),
        (
            [changed(Sid="a b")],
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*",
        ),
        ([changed(Principal="*")], "Policy document should not specify a principal."),
        ([changed(Action=None)], ACTIONS),
        ([changed(Action=[])], ACTIONS),
        ([changed(Action=None, Resource=None)], ACTIONS),
        ([changed(Resource=None)], RESOURCES),
        ([changed(Resource=[])], RESOURCES),
        ([changed(Action="invalid")], VENDOR),
        ([changed(Action=None, NotAction="")], VENDOR),
        ([changed(Action="invalid", Resource=None)], VENDOR),
        ([changed(Action="a a:ListBucket")], "Vendor a a is not valid"),
        ([changed(Action="s*:ListBucket")], "Vendor s* is not valid"),
        ([changed(Action="s3:List:Bucket")], "Actions/Condition can contain only one colon."),
        ([changed(Resource="invalid resource")], 'Resource invalid resource must be in ARN format or "*".'),
        ([changed(Resource="")], 'Resource  must be in ARN format or "*".'),
        ([changed(Resource=["adf"])], 'Resource adf must be in ARN format or "*".'),
        ([changed(Resource="a:bsdf")], 'Partition "bsdf" is not valid for resource "arn:bsdf:*:*:*:*".'),
        ([changed(Resource="a:b:cadfsdf")], 'Partition "b" is not valid for resource "arn:b:cadfsdf:*:*:*".'),
        ([changed(Resource="a:b:c:d:e:f:g:h")], 'Partition "b" is not valid for resource "arn:b:c:d:e:f:g:h".'),
        ([changed(Resource="aws:s3:::example_bucket")], 'Partition "s3" is not valid for resource "arn:s3:::example_bucket:*".'),
        (
            [changed(Resource=["arn:error:s3:::example_bucket", "arn:error:s3::example_bucket"])],
            'Partition "error" is not valid for resource "arn:error:s3:::example_bucket".',
        ),
        ([changed(Resource="arn:aws")], "Resource vendor must be fully qualified and cannot contain regexes."),
        ([changed(Resource="arn:aws:s*:::b")], "Resource vendor must be fully qualified and cannot contain regexes."),
        (
            [changed(Resource="arn:aws:s3:us-east-1::example_bucket")],
            "Resource arn:aws:s3:us-east-1::example_bucket can not contain region information.",
        ),
        (
            [changed(Resource="arn:aws:iam:us-east-1::user/x")],
            "IAM resource arn:aws:iam:us-east-1::user/x cannot contain region information.",
        ),
        (
            [changed(Resource="arn:aws:iam:::example_bucket")],
            (
                'IAM resource path must either be "*" or start with user/, federated-user/, role/, group/, instance-profile/, mfa/, '
                "server-certificate/, policy/, sms-mfa/, saml-provider/, oidc-provider/, report/, access-report/."
            ),
        ),
    ],
)
def test_values(statements, message):
    assert refused(policy(*statements)) == message


@pytest.mark.parametrize(
    "statement",
    [
        GOOD,
        changed(Resource=[ARN, "*"]),
        changed(Action="*"),
        changed(Action="iam: asdf safdsf af "),
        changed(Action=["fsx:ListBucket", "service-prefix:action-name", "s3.s:x"]),
        changed(Resource="arn:aws:iam:::user/x"),
        changed(Resource="arn:aws:iam::*:*"),
        changed(Resource="arn:aws:iam::111122223333:root"),
        changed(Resource="arn:aws:fdsasf"),
        changed(Resource="arn:aws:cloudwatch:us-east-1::x"),
        changed(Resource="arn:*:s3:::x"),
        changed(Resource="arn:aws-cn:s3:::x"),
        changed(Resource="arn:aws:s3:us-east-1:111122223333:accesspoint/x"),
        changed(Resource="arn:aws:s3:*:*:x"),
        changed(Resource="arn:aws:s3:::home/${aws:username}/*"),
        changed(Condition={}),
        changed(Condition={"DateGreaterThan": {}}),
        changed(Condition={"DateGreaterThan": {"a": []}}),
        changed(Condition={"x": {}, "y": {}}),
        changed(Condition={"DateGreaterThan": {"aws:CurrentTime": "2017-07-01T00:00:00Z"}}),
        changed(Condition={"DateLessThanEquals": {"a": "2016-12-13T21:20:37.593194+00:00"}}),
        changed(Condition={"DateLessThan": {"a": "-292275054"}}),
        changed(Condition={"Bool": {"aws:SecureTransport": False}, "NumericLessThan": {"a": 5}}),
        changed(Condition={"ForAnyValue:StringEqualsIfExists": {"a": "asf"}}),
        changed(Resource=None, NotResource="*", Action=None, NotAction="s3:x"),
        changed(Sid=""),
    ],
)
def test_good_identity_policies(statement):
    assert len(parse(policy(statement), "identity").statements) == 1
    assert len(parse(json.dumps({"Version": "2012-10-17", "Id": "x", "Statement": statement}), "identity", "arn").statements) == 1


def test_a_policy_keeps_its_source_and_ids():
    compiled = parse(policy(changed(Sid="One"), changed(Sid="Two", Effect="Deny")), "identity", "arn:aws:iam::aws:policy/X")
    assert compiled.source == "arn:aws:iam::aws:policy/X"
    assert [(statement.index, statement.sid, statement.allows) for statement in compiled.statements] == [
        (0, "One", True),
        (1, "Two", False),
    ]


# -- trust policies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (changed(TRUST, Resource="*"), "Has prohibited field Resource"),
        (changed(TRUST, NotResource="*"), "Has prohibited field NotResource"),
        (changed(TRUST, Principal=None), "Missing required field Principal"),
        (changed(TRUST, Action=None), ACTIONS),
        (changed(TRUST, Action=["sts:AssumeRole", "s3:GetObject"]), "AssumeRole policy may only specify STS AssumeRole actions."),
        (changed(TRUST, Action="*"), "AssumeRole policy may only specify STS AssumeRole actions."),
        (changed(TRUST, Principal={"AWS": "anna"}), 'Invalid principal in policy: "AWS":"anna"'),
        (
            changed(TRUST, Principal={"AWS": "arn:aws:iam::111122223333:user/*"}),
            'Invalid principal in policy: "AWS":"arn:aws:iam::111122223333:user/*"',
        ),
        (
            changed(TRUST, Principal={"AWS": "arn:aws:iam::12:user/x"}),
            'Invalid principal in policy: "AWS":"arn:aws:iam::12:user/x"',
        ),
        (changed(TRUST, Principal={"Service": ""}), 'Invalid principal in policy: "Service":""'),
        (changed(TRUST, Principal={"Aws": "*"}), 'Invalid principal in policy: "Aws":"*"'),
        (changed(TRUST, Principal="anna"), "Invalid principal in policy"),
        (changed(TRUST, Condition={"NumericEquals": {"a": "x"}}), LEGACY),
        (changed(TRUST, Effect="allow"), LEGACY),
    ],
)
def test_malformed_trust_policies(statement, message):
    assert refused(policy(statement), "trust") == message


@pytest.mark.parametrize("version", [None, "2008-10-17", "2012-10-17"])
@pytest.mark.parametrize(
    "principal",
    [
        {"Service": ["lambda.amazonaws.com", "sagemaker.amazonaws.com"]},
        {"AWS": "111122223333"},
        {"AWS": "arn:aws:iam::111122223333:root"},
        {"AWS": "arn:aws:sts::111122223333:assumed-role/r/s"},
        {"AWS": "AIDAEXAMPLE"},
        {"Federated": "accounts.google.com"},
        {"CanonicalUser": "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"},
        {"AWS": "*"},
        {"*": "*"},
        "*",
    ],
)
def test_good_trust_policies(version, principal):
    document = changed({"Version": version, "Statement": [changed(TRUST, Principal=principal)]})
    assert parse(document, "trust").kind == "trust"


# -- resource policies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("not json", "Policies must be valid JSON and the first byte must be '{'"),
        ({"Version": "2012-10-17"}, "Missing required field Statement"),
        (policy(), "Invalid policy syntax."),
        (policy(ANYONE, Extra="x"), "Invalid policy syntax."),
        (policy(changed(ANYONE, Effect=None)), "Missing required field Effect"),
        (policy(changed(ANYONE, Effect="allow")), "Invalid effect: allow"),
        (policy(changed(ANYONE, Effect="x")), "Invalid policy syntax."),
        (policy(changed(ANYONE, Condition={"NumericEquals": {"a": "x"}})), "Invalid Condition value"),
        (policy(GOOD), "Missing required field Principal"),
        (policy(changed(ANYONE, Action=None)), "Missing required field Action"),
        (policy(changed(ANYONE, Resource=None)), "Missing required field Resource"),
        (policy(changed(ANYONE, Action="List")), "Policy has invalid action"),
        (policy(changed(ANYONE, Resource="bkt/*")), "Policy has invalid resource"),
        (policy(changed(ANYONE, Principal="anna")), "Invalid principal in policy"),
        (policy(changed(ANYONE, Principal={"AWS": "anna"})), "Invalid principal in policy"),
        (policy(changed(ANYONE, Principal={"Users": "anna"})), "Invalid principal in policy"),
        (policy(changed(ANYONE, NotPrincipal="*")), "Invalid policy syntax."),
        (policy(changed(ANYONE, Sid="a"), changed(ANYONE, Sid="a")), "Statement IDs (SID) in a single policy must be unique."),
    ],
)
def test_malformed_resource_policies(document, message):
    assert refused(document, "resource") == message


@pytest.mark.parametrize(
    "statement",
    [
        ANYONE,
        changed(ANYONE, Sid="with spaces"),
        changed(ANYONE, Action="*", Resource="*"),
        changed(ANYONE, Principal=None, NotPrincipal={"AWS": "111122223333"}),
        changed(ANYONE, Principal={"AWS": "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E1"}),
    ],
)
def test_good_resource_policies(statement):
    assert parse({"Version": "2008-10-17", "Statement": [statement]}, "resource").kind == "resource"
    assert parse({"Statement": statement}, "resource")
