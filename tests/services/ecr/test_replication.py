"""Replication to other Regions and accounts, registry policies, pull-through cache rules."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tests.services.ecr.conftest import digest, image_of, login, push


def code_of(raised):
    return raised.value.response["Error"]["Code"]


def replicate(ecr, *destinations, prefix=""):
    rule = {"destinations": [{"region": region, "registryId": account} for account, region in destinations]}
    if prefix:
        rule["repositoryFilters"] = [{"filter": prefix, "filterType": "PREFIX_MATCH"}]
    ecr.put_replication_configuration(replicationConfiguration={"rules": [rule]})


def test_a_push_becomes_pullable_in_another_region(ecr, aws, server):
    assert ecr.describe_registry()["replicationConfiguration"] == {"rules": []}
    replicate(ecr, (aws.account, "eu-west-1"))
    blobs = set(server.cloud.blobs.names())
    image = image_of("one")
    push(ecr, "app", image, "v1")
    there = login(aws, "eu-west-1")
    assert there.ask("GET", "/v2/app/manifests/v1").body == image.manifest
    assert there.ask("GET", f"/v2/app/blobs/{digest(image.layers[0])}").body == image.layers[0]
    assert len(set(server.cloud.blobs.names()) - blobs) == len(image.blobs)
    (status,) = ecr.describe_image_replication_status(repositoryName="app", imageId={"imageTag": "v1"})["replicationStatuses"]
    assert (status["region"], status["status"]) == ("eu-west-1", "COMPLETE")
    ecr.delete_repository(repositoryName="app", force=True)
    assert there.ask("GET", f"/v2/app/blobs/{digest(image.layers[0])}").body == image.layers[0]


def test_filters_choose_repositories(ecr, aws):
    replicate(ecr, (aws.account, "eu-west-1"), prefix="team/")
    ecr.create_repository(repositoryName="team/app")
    for name in ("app", "team/app"):
        push(ecr, name, image_of("one"), "v1")
    found = aws.client("ecr", "eu-west-1").describe_repositories()["repositories"]
    assert [one["repositoryName"] for one in found] == ["team/app"]


def test_another_account_must_agree(ecr, aws, other_aws):
    replicate(ecr, (other_aws.account, "us-east-1"))
    push(ecr, "app", image_of("one"), "v1")
    (status,) = ecr.describe_image_replication_status(repositoryName="app", imageId={"imageTag": "v1"})["replicationStatuses"]
    assert status["status"] == "FAILED"
    theirs = other_aws.client("ecr")
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{aws.account}:root"},
        "Action": ["ecr:CreateRepository", "ecr:ReplicateImage"],
        "Resource": f"arn:aws:ecr:us-east-1:{other_aws.account}:repository/*",
    }
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    theirs.put_registry_policy(policyText=text)
    assert theirs.get_registry_policy()["policyText"] == text
    push(ecr, "app", image_of("two"), "v2")
    assert theirs.describe_images(repositoryName="app")["imageDetails"][0]["imageTags"] == ["v2"]
    assert login(other_aws).ask("GET", f"/v2/app/blobs/{digest(image_of('two').layers[0])}").body == image_of("two").layers[0]
    theirs.delete_registry_policy()
    with pytest.raises(ClientError) as raised:
        theirs.get_registry_policy()
    assert code_of(raised) == "RegistryPolicyNotFoundException"


def test_put_replication_configuration_refuses_itself(ecr, aws):
    for destination in ((aws.account, "us-east-1"), (aws.account, "moon-1")):
        with pytest.raises(ClientError) as raised:
            replicate(ecr, destination)
        assert code_of(raised) == "ValidationException"


def test_pull_through_cache_rules_reach_registries_of_this_server(ecr, aws, other_aws):
    with pytest.raises(ClientError, match="pilvi images import") as raised:
        ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="hub", upstreamRegistryUrl="registry-1.docker.io")
    assert code_of(raised) == "UnsupportedUpstreamRegistryException"
    theirs = other_aws.client("ecr")
    theirs.create_repository(repositoryName="lib/tool")
    image = image_of("one")
    push(theirs, "lib/tool", image, "v1")
    url = f"{other_aws.account}.dkr.ecr.us-east-1.amazonaws.com"
    made = ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="theirs", upstreamRegistryUrl=url)
    assert (made["upstreamRegistry"], made["upstreamRepositoryPrefix"]) == ("ecr", "ROOT")
    with pytest.raises(ClientError) as raised:
        ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="theirs", upstreamRegistryUrl=url)
    assert code_of(raised) == "PullThroughCacheRuleAlreadyExistsException"
    assert ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix="theirs")["isValid"] is True
    assert login(aws).ask("GET", "/v2/theirs/lib/tool/manifests/v1").status == 403
    actions = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{aws.account}:root"}, "Action": actions}
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    theirs.set_repository_policy(repositoryName="lib/tool", policyText=text)
    assert login(aws).ask("GET", "/v2/theirs/lib/tool/manifests/v1").body == image.manifest
    assert [one["ecrRepositoryPrefix"] for one in ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]] == ["theirs"]
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix="theirs")
    with pytest.raises(ClientError) as raised:
        ecr.describe_pull_through_cache_rules(ecrRepositoryPrefixes=["theirs"])
    assert code_of(raised) == "PullThroughCacheRuleNotFoundException"
