"""STS: who am I, and temporary credentials."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from pilvi.core.ids import Ids
from pilvi.services.iam.identities import Identities
from pilvi.testing.virtual_clock import VirtualClock

ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def allow(action, resource="*", **more):
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource, **more}]}


def trusting(principal, action="sts:AssumeRole", **more):
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def make_role(account, name, trust, *policies, **more):
    iam = account.client("iam")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **more)["Role"]["Arn"]
    for number, policy in enumerate(policies):
        iam.put_role_policy(RoleName=name, PolicyName=f"p{number}", PolicyDocument=json.dumps(policy))
    return arn


def assume(caller, arn, session="s1", **more):
    answer = caller.client("sts").assume_role(RoleArn=arn, RoleSessionName=session, **more)
    keys = answer["Credentials"]
    return caller.with_keys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])


@pytest.fixture
def ada(aws):
    """A user who may assume any role."""
    return aws.user("ada", allow("sts:*"))


@pytest.fixture
def role(aws, ada):
    """A role that trusts its account, and may list users."""
    return make_role(aws, "Worker", trusting({"AWS": aws.account}), allow("iam:ListUsers"))


# -- who am I -----------------------------------------------------------------------------------------------------------


def test_get_caller_identity_of_the_root_user(aws):
    answer = aws.client("sts").get_caller_identity()
    assert (answer["UserId"], answer["Account"], answer["Arn"]) == (aws.account, aws.account, f"arn:aws:iam::{aws.account}:root")


def test_get_caller_identity_needs_no_permission(aws, iam):
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
    bob = aws.user("bob", deny)
    answer = bob.client("sts").get_caller_identity()
    assert answer["Arn"] == f"arn:aws:iam::{aws.account}:user/bob"
    assert answer["UserId"] == iam.get_user(UserName="bob")["User"]["UserId"]


def test_get_caller_identity_of_a_role_session(aws, iam, ada, role):
    answer = assume(ada, role, "my.session").client("sts").get_caller_identity()
    assert answer["Arn"] == f"arn:aws:sts::{aws.account}:assumed-role/Worker/my.session"
    assert answer["UserId"] == iam.get_role(RoleName="Worker")["Role"]["RoleId"] + ":my.session"


# -- assuming roles -----------------------------------------------------------------------------------------------------


def test_assume_role_gives_what_the_role_may(ada, role, refused):
    session = assume(ada, role)
    assert session.client("iam").list_users()["Users"]
    with refused("AccessDenied", "assumed-role/Worker/s1 is not authorized to perform: iam:ListRoles"):
        session.client("iam").list_roles()


def test_assume_role_answers_as_aws(aws, ada, role):
    before = datetime.now(UTC)
    answer = ada.client("sts").assume_role(RoleArn=role, RoleSessionName="s1", DurationSeconds=900)
    keys = answer["Credentials"]
    assert keys["AccessKeyId"].startswith("ASIA")
    assert timedelta(seconds=890) < keys["Expiration"] - before <= timedelta(seconds=905)
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{aws.account}:assumed-role/Worker/s1"
    assert "PackedPolicySize" not in answer
    assert "SourceIdentity" not in answer


def test_assume_role_is_refused_to_root(aws, role, refused):
    with refused("AccessDenied", "Roles may not be assumed by root accounts.", 403):
        assume(aws, role)


def test_assume_role_by_account_trust_needs_the_callers_own_permission(aws, role, refused):
    bob = aws.user("bob", allow("iam:*"))
    with refused("AccessDenied", f"User: arn:aws:iam::{aws.account}:user/bob is not authorized to perform: sts:AssumeRole"):
        assume(bob, role)


def test_assume_role_by_name_needs_nothing_else(aws):
    bob = aws.user("bob")
    arn = make_role(aws, "R", trusting({"AWS": f"arn:aws:iam::{aws.account}:user/bob"}))
    assert assume(bob, arn).client("sts").get_caller_identity()["Account"] == aws.account


def test_assume_role_outside_the_trust_is_refused(aws, ada, refused):
    arn = make_role(aws, "R", trusting({"Service": "lambda.amazonaws.com"}))
    with refused("AccessDenied", "sts:AssumeRole", 403):
        assume(ada, arn)
    with refused("AccessDenied", "sts:AssumeRole", 403):
        assume(ada, f"arn:aws:iam::{aws.account}:role/nothing")
    with refused("AccessDenied"):
        assume(ada, arn.replace("role/R", "role/other/path/R"))
    with refused("ValidationError", "is invalid"):
        assume(ada, "this is not the name of a role")


def test_assume_role_of_another_account(aws, other_aws, refused):
    bob = other_aws.user("bob", allow("sts:AssumeRole"))
    eve = other_aws.user("eve")
    arn = make_role(aws, "R", trusting({"AWS": f"arn:aws:iam::{other_aws.account}:root"}), allow("iam:ListRoles"))
    session = assume(bob, arn)
    assert session.client("sts").get_caller_identity()["Account"] == aws.account
    assert [found["RoleName"] for found in session.client("iam").list_roles()["Roles"]] == ["R"]
    with refused("AccessDenied"):
        assume(eve, arn)
    with refused("AccessDenied"):
        assume(bob, make_role(aws, "Own", trusting({"AWS": aws.account})))


def test_assume_role_with_an_external_id(aws, ada, refused):
    condition = {"StringEquals": {"sts:ExternalId": "secret-7"}}
    arn = make_role(aws, "R", trusting({"AWS": aws.account}, Condition=condition))
    with refused("AccessDenied"):
        assume(ada, arn)
    with refused("AccessDenied"):
        assume(ada, arn, ExternalId="wrong-1")
    assert assume(ada, arn, ExternalId="secret-7")


def test_assume_role_for_at_most_what_the_role_allows(aws, ada, role, refused):
    with refused("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."):
        assume(ada, role, DurationSeconds=3601)
    with refused("ValidationError"):
        assume(ada, role, DurationSeconds=43201)
    aws.client("iam").update_role(RoleName="Worker", MaxSessionDuration=7200)
    assert assume(ada, role, DurationSeconds=7200)


def test_assume_role_narrowed_by_session_policies(aws, ada, role, refused):
    arn = make_role(aws, "Admin", trusting({"AWS": aws.account}), ALLOW_ALL)
    session = assume(ada, arn, Policy=json.dumps(allow("iam:ListUsers")))
    assert session.client("iam").list_users()["Users"]
    with refused("AccessDenied", "no session policy allows the iam:ListRoles action"):
        session.client("iam").list_roles()
    managed = assume(ada, arn, PolicyArns=[{"arn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess"}])
    assert managed.client("iam").list_roles()["Roles"]
    with refused("AccessDenied"):
        managed.client("iam").create_user(UserName="eve")
    with refused("MalformedPolicyDocument"):
        assume(ada, arn, Policy="{")
    answer = ada.client("sts").assume_role(RoleArn=arn, RoleSessionName="s1", Policy=json.dumps(ALLOW_ALL))
    assert 0 < answer["PackedPolicySize"] < 100


def test_assume_role_in_a_chain_lasts_an_hour_at_most(aws, ada, refused):
    first = make_role(aws, "First", trusting({"AWS": aws.account}), allow("sts:AssumeRole"), MaxSessionDuration=43200)
    second = make_role(aws, "Second", trusting({"AWS": first}), MaxSessionDuration=43200)
    session = assume(ada, first, DurationSeconds=43200)
    with refused("ValidationError", "1 hour session limit for roles assumed by role chaining"):
        assume(session, second, DurationSeconds=3601)
    assert assume(session, second).client("sts").get_caller_identity()["Arn"].endswith("assumed-role/Second/s1")


def test_assume_role_with_tags_that_conditions_see(aws, ada, refused):
    condition = {"StringEquals": {"aws:PrincipalTag/team": "ml"}}
    plain = make_role(aws, "Plain", trusting({"AWS": aws.account}))
    with refused("AccessDenied", "sts:TagSession"):
        assume(ada, plain, Tags=[{"Key": "team", "Value": "ml"}])
    both = ["sts:AssumeRole", "sts:TagSession"]
    arn = make_role(aws, "Tagged", trusting({"AWS": aws.account}, both), allow("iam:ListUsers", Condition=condition))
    assert assume(ada, arn, Tags=[{"Key": "team", "Value": "ml"}]).client("iam").list_users()["Users"]
    for tags in ([{"Key": "team", "Value": "hr"}], []):
        with refused("AccessDenied"):
            assume(ada, arn, Tags=tags).client("iam").list_users()
    with refused("ValidationError", "Duplicate tag keys"):
        assume(ada, arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "1"}])


def test_transitive_tags_and_source_identity_go_down_the_chain(aws, ada):
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    first = make_role(aws, "First", trusting({"AWS": aws.account}, actions), allow("sts:*"))
    condition = {"StringEquals": {"aws:PrincipalTag/team": "ml", "aws:SourceIdentity": "ada"}}
    second = make_role(aws, "Second", trusting({"AWS": first}, actions), allow("iam:ListUsers", Condition=condition))
    tags = [{"Key": "team", "Value": "ml"}, {"Key": "room", "Value": "7"}]
    session = assume(ada, first, Tags=tags, TransitiveTagKeys=["team"], SourceIdentity="ada")
    answer = session.client("sts").assume_role(RoleArn=second, RoleSessionName="s2")
    assert answer["SourceIdentity"] == "ada"
    assert assume(session, second).client("iam").list_users()["Users"]


def test_tags_of_the_role_and_the_user_are_principal_tags(aws, iam):
    condition = {"StringEquals": {"aws:PrincipalTag/team": "ml"}}
    bob = aws.user("bob", allow("iam:ListUsers", Condition=condition), allow("sts:AssumeRole"))
    arn = make_role(aws, "R", trusting({"AWS": aws.account}), allow("iam:ListUsers", Condition=condition))
    session = assume(bob, arn)
    for caller, tag in (
        (bob, lambda value: iam.tag_user(UserName="bob", Tags=value)),
        (session, lambda value: iam.tag_role(RoleName="R", Tags=value)),
    ):
        with pytest.raises(iam.exceptions.ClientError, match="AccessDenied"):
            caller.client("iam").list_users()
        tag([{"Key": "team", "Value": "ml"}])
        assert caller.client("iam").list_users()["Users"]


def test_a_session_follows_its_role(aws, iam, ada, role, refused):
    session = assume(ada, role)
    assert session.client("iam").list_users()
    iam.delete_role_policy(RoleName="Worker", PolicyName="p0")
    with refused("AccessDenied"):
        session.client("iam").list_users()
    iam.delete_role(RoleName="Worker")
    with refused("InvalidClientTokenId"):
        session.client("sts").get_caller_identity()
    make_role(aws, "Worker", trusting({"AWS": aws.account}), ALLOW_ALL)
    with refused("InvalidClientTokenId"):
        session.client("iam").list_users()


def test_a_session_token_cannot_be_altered_or_swapped(aws, ada, role, refused):
    session, other = assume(ada, role, "s1"), assume(ada, role, "s2")
    for token in (other.session_token, session.session_token[:-8] + "AAAAAAA=", "x", None):
        with refused("InvalidClientTokenId"):
            aws.with_keys(session.access_key_id, session.secret, token).client("sts").get_caller_identity()
    with refused("SignatureDoesNotMatch"):
        aws.with_keys(session.access_key_id, other.secret, session.session_token).client("sts").get_caller_identity()


def test_a_session_ends(server, aws, role, refused):
    cloud = server.cloud
    long_ago = Identities(cloud.store, cloud.keyring, VirtualClock(datetime(2020, 1, 1, tzinfo=UTC)), Ids())
    old = long_ago.session_token(cloud.identities.root(aws.account), duration_s=900)
    with refused("ExpiredToken", "The security token included in the request is expired", 403):
        aws.with_keys(old.access_key_id, old.secret, old.session_token).client("sts").get_caller_identity()


# -- sessions of users --------------------------------------------------------------------------------------------------


def test_get_session_token_is_the_user_for_a_while(aws, ada, refused):
    keys = ada.client("sts").get_session_token(DurationSeconds=900)["Credentials"]
    session = ada.with_keys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    assert session.client("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{aws.account}:user/ada"
    with refused("AccessDenied", "Cannot call GetSessionToken with session credentials"):
        session.client("sts").get_session_token()
    with refused("InvalidClientTokenId", "The security token included in the request is invalid", 403):
        session.client("iam").list_users()


def test_get_session_token_of_the_root_user_lasts_an_hour(aws):
    keys = aws.client("sts").get_session_token(DurationSeconds=43200)["Credentials"]
    assert keys["Expiration"] - datetime.now(UTC) <= timedelta(seconds=3601)


def test_get_session_token_refuses_mfa_that_is_not_there(ada, refused):
    with refused("AccessDenied", "MultiFactorAuthentication failed", 403):
        ada.client("sts").get_session_token(SerialNumber="arn:aws:iam::1:mfa/x", TokenCode="123456")


def test_get_federation_token_may_what_both_allow(aws, refused):
    bob = aws.user("bob", allow(["sts:*", "logs:*"]))
    answer = bob.client("sts").get_federation_token(Name="guest", Policy=json.dumps(allow(["logs:Describe*", "s3:*"])))
    assert answer["FederatedUser"]["Arn"] == f"arn:aws:sts::{aws.account}:federated-user/guest"
    assert answer["FederatedUser"]["FederatedUserId"] == f"{aws.account}:guest"
    keys = answer["Credentials"]
    guest = aws.with_keys(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    assert guest.client("sts").get_caller_identity()["Arn"] == answer["FederatedUser"]["Arn"]
    assert guest.client("logs").describe_log_groups()["logGroups"] == []
    with refused("AccessDeniedException"):
        guest.client("logs").create_log_group(logGroupName="g")
    with refused("AccessDenied"):
        guest.client("s3").list_buckets()
    with refused("AccessDenied", "Cannot call GetFederationToken with session credentials"):
        guest.client("sts").get_federation_token(Name="other")
    bare = bob.client("sts").get_federation_token(Name="guest")["Credentials"]
    nobody = aws.with_keys(bare["AccessKeyId"], bare["SecretAccessKey"], bare["SessionToken"])
    with refused("AccessDeniedException"):
        nobody.client("logs").describe_log_groups()


# -- keys ---------------------------------------------------------------------------------------------------------------


def test_get_access_key_info_reads_the_account_from_the_id(aws, other_aws, refused):
    sts = aws.client("sts")
    assert sts.get_access_key_info(AccessKeyId=other_aws.access_key_id)["Account"] == other_aws.account
    assert sts.get_access_key_info(AccessKeyId="ASIAQNZGKIQY56JQ7WML")["Account"] == "029608264753"
    with refused("ValidationError"):
        sts.get_access_key_info(AccessKeyId="AKIAAAAAAAAAAAAAAAAA")
