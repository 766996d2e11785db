"""Repositories, their tags, policies and settings."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tests.services.ecr.conftest import image_of, push


def code_of(raised):
    return raised.value.response["Error"]["Code"]


def test_create_repository_describes_it(aws):
    ecr = aws.client("ecr")
    made = ecr.create_repository(repositoryName="team/app", tags=[{"Key": "a", "Value": "b"}])["repository"]
    assert made["repositoryArn"] == f"arn:aws:ecr:us-east-1:{aws.account}:repository/team/app"
    assert made["repositoryUri"] == f"{aws.account}.dkr.ecr.us-east-1.amazonaws.com/team/app"
    assert (made["imageTagMutability"], made["imageScanningConfiguration"]) == ("MUTABLE", {"scanOnPush": False})
    assert made["encryptionConfiguration"] == {"encryptionType": "AES256"}
    assert ecr.describe_repositories(repositoryNames=["team/app"])["repositories"] == [made]
    assert ecr.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"] == [{"Key": "a", "Value": "b"}]


def test_create_repository_twice_is_refused(ecr, aws):
    with pytest.raises(ClientError, match="already exists in the registry with id") as raised:
        ecr.create_repository(repositoryName="app")
    assert code_of(raised) == "RepositoryAlreadyExistsException"
    aws.client("ecr", "eu-west-1").create_repository(repositoryName="app")


def test_create_repository_refuses_what_it_cannot_keep(aws):
    ecr = aws.client("ecr")
    for more in (
        {"encryptionConfiguration": {"encryptionType": "KMS"}},
        {"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"},
        {"repositoryName": "Capital"},
    ):
        with pytest.raises(ClientError) as raised:
            ecr.create_repository(**{"repositoryName": "app", **more})
        assert code_of(raised) == "InvalidParameterException"


def test_describe_repositories_pages_to_the_end(aws, other_aws):
    ecr = aws.client("ecr")
    for number in range(5):
        ecr.create_repository(repositoryName=f"r{number}")
    pages = ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 2})
    assert [[one["repositoryName"] for one in page["repositories"]] for page in pages] == [["r0", "r1"], ["r2", "r3"], ["r4"]]
    assert other_aws.client("ecr").describe_repositories()["repositories"] == []
    with pytest.raises(ClientError, match="does not exist in the registry with id") as raised:
        ecr.describe_repositories(repositoryNames=["nope"])
    assert code_of(raised) == "RepositoryNotFoundException"


def test_delete_repository_keeps_images_unless_forced(ecr, server):
    push(ecr, "app", image_of("one"), "v1")
    with pytest.raises(ClientError, match="because it still contains images") as raised:
        ecr.delete_repository(repositoryName="app")
    assert code_of(raised) == "RepositoryNotEmptyException"
    ecr.delete_repository(repositoryName="app", force=True)
    ecr.create_repository(repositoryName="app")
    assert ecr.list_images(repositoryName="app")["imageIds"] == []


def test_delete_repository_frees_its_layers(ecr, server):
    blobs = set(server.cloud.blobs.names())
    push(ecr, "app", image_of("one"), "v1")
    assert set(server.cloud.blobs.names()) > blobs
    ecr.delete_repository(repositoryName="app", force=True)
    assert set(server.cloud.blobs.names()) == blobs


def test_tag_resource_and_untag_resource(ecr, aws):
    arn = f"arn:aws:ecr:us-east-1:{aws.account}:repository/app"
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    ecr.untag_resource(resourceArn=arn, tagKeys=["a", "z"])
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "b", "Value": "2"}]
    with pytest.raises(ClientError) as raised:
        ecr.tag_resource(resourceArn=arn, tags=[{"Key": "aws:x", "Value": "1"}])
    assert code_of(raised) == "InvalidTagParameterException"
    with pytest.raises(ClientError) as raised:
        ecr.tag_resource(resourceArn=arn, tags=[{"Key": f"k{n}", "Value": ""} for n in range(50)])
    assert code_of(raised) == "TooManyTagsException"
    with pytest.raises(ClientError) as raised:
        ecr.list_tags_for_resource(resourceArn=f"{arn}x")
    assert code_of(raised) == "RepositoryNotFoundException"


def test_put_image_tag_mutability_refuses_repushed_tags(ecr):
    push(ecr, "app", image_of("one"), "v1")
    put = ecr.put_image_tag_mutability(repositoryName="app", imageTagMutability="IMMUTABLE")
    assert put["imageTagMutability"] == "IMMUTABLE"
    with pytest.raises(ClientError, match="cannot be overwritten because the tag is immutable") as raised:
        push(ecr, "app", image_of("two"), "v1")
    assert code_of(raised) == "ImageTagAlreadyExistsException"
    push(ecr, "app", image_of("two"), "v2")
    ecr.put_image_tag_mutability(
        repositoryName="app",
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "dev*"}],
    )
    push(ecr, "app", image_of("one"), "dev-1")
    assert push(ecr, "app", image_of("two"), "dev-1")["imageId"]["imageDigest"] == image_of("two").digest


def test_put_image_scanning_configuration_is_told(ecr):
    ecr.put_image_scanning_configuration(repositoryName="app", imageScanningConfiguration={"scanOnPush": True})
    (found,) = ecr.describe_repositories()["repositories"]
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}


def test_set_repository_policy_lets_others_in(ecr, aws, other_aws):
    image = image_of("one")
    push(ecr, "app", image, "v1")
    theirs = other_aws.client("ecr")
    wanted = {"registryId": aws.account, "repositoryName": "app", "imageIds": [{"imageTag": "v1"}]}
    with pytest.raises(ClientError) as raised:
        theirs.batch_get_image(**wanted)
    assert code_of(raised) == "AccessDeniedException"
    with pytest.raises(ClientError) as raised:
        ecr.get_repository_policy(repositoryName="app")
    assert code_of(raised) == "RepositoryPolicyNotFoundException"
    principal = {"AWS": f"arn:aws:iam::{other_aws.account}:root"}
    statement = {"Sid": "pull", "Effect": "Allow", "Principal": principal, "Action": ["ecr:BatchGetImage"]}
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    ecr.set_repository_policy(repositoryName="app", policyText=text)
    assert theirs.batch_get_image(**wanted)["images"][0]["imageId"]["imageDigest"] == image.digest
    assert ecr.delete_repository_policy(repositoryName="app")["policyText"] == text
    with pytest.raises(ClientError):
        theirs.batch_get_image(**wanted)


def test_set_repository_policy_refuses_other_texts(ecr):
    for text in ("no json", "{}", json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Perhaps"}]})):
        with pytest.raises(ClientError) as raised:
            ecr.set_repository_policy(repositoryName="app", policyText=text)
        assert code_of(raised) == "InvalidParameterException"


def test_users_need_permission(ecr, aws):
    arn = f"arn:aws:ecr:us-east-1:{aws.account}:repository/app"
    allowed = {"Effect": "Allow", "Action": ["ecr:DescribeRepositories"], "Resource": arn}
    user = aws.user("u", {"Version": "2012-10-17", "Statement": [allowed]}).client("ecr")
    assert len(user.describe_repositories(repositoryNames=["app"])["repositories"]) == 1
    for ask in (
        lambda: user.describe_repositories(),
        lambda: user.delete_repository(repositoryName="app"),
        lambda: user.get_authorization_token(),
    ):
        with pytest.raises(ClientError) as raised:
            ask()
        assert code_of(raised) == "AccessDeniedException"
