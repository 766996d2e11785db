"""Lifecycle policies: the language, previews, and what they expire by the server's clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from pilvi.core.errors import Invalid
from pilvi.services.ecr.lifecycle import expired, read_rules
from pilvi.testing.server import Account, TestServer
from pilvi.testing.virtual_clock import VirtualClock
from tests.services.ecr.conftest import image_of, push

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def code_of(raised):
    return raised.value.response["Error"]["Code"]


def rule(priority=1, status="any", kind="imageCountMoreThan", count=3, **more):
    selection = {"tagStatus": status, "countType": kind, "countNumber": count, **more}
    if kind != "imageCountMoreThan":
        selection["countUnit"] = "days"
    return {"rulePriority": priority, "description": "keep", "selection": selection, "action": {"type": "expire"}}


def text_of(*rules):
    return json.dumps({"rules": rules}, indent=4)


def image(name, days=0, tags=(), children=()):
    return {"digest": name, "pushed": NOW - timedelta(days=days), "tags": list(tags), "children": list(children), "pulled": None}


def names(rules, images):
    return sorted(found["digest"] for found, _ in expired(read_rules(text_of(*rules)), images, NOW))


# -- the language ---------------------------------------------------------------------------------------------------------


def test_rules_count_and_age():
    images = [image(f"d{days}", days) for days in range(5)]
    assert names([rule(count=3)], images) == ["d3", "d4"]
    assert names([rule(kind="sinceImagePushed", count=2)], images) == ["d2", "d3", "d4"]


def test_rules_select_by_tags():
    images = [image("a", 1, ["prod-1"]), image("b", 2, ["prod-2", "beta"]), image("c", 3), image("d", 4, ["dev"])]
    assert names([rule(status="untagged", kind="sinceImagePushed", count=1)], images) == ["c"]
    assert names([rule(status="tagged", tagPrefixList=["prod"], count=1)], images) == ["b"]
    assert names([rule(status="tagged", tagPrefixList=["prod", "beta"], kind="sinceImagePushed", count=1)], images) == ["b"]
    assert names([rule(status="tagged", tagPatternList=["*-1"], kind="sinceImagePushed", count=1)], images) == ["a"]


def test_an_earlier_rule_keeps_images_from_later_ones():
    images = [image("prod", 30, ["prod-1"]), image("old", 30, ["x"]), image("new", 0, ["y"])]
    rules = [rule(1, "tagged", tagPrefixList=["prod"], count=5), rule(2, "any", count=1)]
    assert names(rules, images) == ["old"]


def test_images_of_a_list_go_with_the_list():
    images = [image("list", 1, ["v1"], ["child"]), image("child", 9)]
    assert names([rule(kind="sinceImagePushed", count=5)], images) == []
    assert names([rule(kind="sinceImagePushed", count=1)], images) == ["list"]


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [rule(), rule()],
        [rule(1, "any"), rule(2, "untagged")],
        [rule(status="tagged")],
        [rule(status="untagged", tagPrefixList=["a"])],
        [rule(count=0)],
        [{**rule(), "action": {"type": "keep"}}],
        [rule(kind="never")],
    ],
)
def test_policies_that_make_no_sense_are_refused(rules):
    with pytest.raises(Invalid):
        read_rules(text_of(*rules))


@given(st.lists(st.integers(0, 100), max_size=20), st.integers(1, 10))
def test_keep_last_keeps_that_many(ages, count):
    images = [image(f"{number:03}", age) for number, age in enumerate(ages)]
    gone = names([rule(count=count)], images)
    assert len(images) - len(gone) == min(len(images), count)
    kept = [entry["pushed"] for entry in images if entry["digest"] not in gone]
    assert all(min(kept) >= entry["pushed"] for entry in images if entry["digest"] in gone)


# -- the operations -------------------------------------------------------------------------------------------------------


def test_put_lifecycle_policy_keeps_the_last_three(ecr):
    for number in range(5):
        push(ecr, "app", image_of(str(number)), f"v{number}")
    text = text_of(rule(count=3))
    ecr.start_lifecycle_policy_preview(repositoryName="app", lifecyclePolicyText=text)
    preview = ecr.get_lifecycle_policy_preview(repositoryName="app")
    assert (preview["status"], preview["summary"]) == ("COMPLETE", {"expiringImageTotalCount": 2})
    assert sorted(entry["imageTags"][0] for entry in preview["previewResults"]) == ["v0", "v1"]
    assert len(ecr.list_images(repositoryName="app")["imageIds"]) == 5
    ecr.put_lifecycle_policy(repositoryName="app", lifecyclePolicyText=text)
    assert sorted(entry["imageTag"] for entry in ecr.list_images(repositoryName="app")["imageIds"]) == ["v2", "v3", "v4"]
    assert ecr.get_lifecycle_policy(repositoryName="app")["lifecyclePolicyText"] == text
    ecr.delete_lifecycle_policy(repositoryName="app")
    with pytest.raises(ClientError) as raised:
        ecr.get_lifecycle_policy(repositoryName="app")
    assert code_of(raised) == "LifecyclePolicyNotFoundException"


def test_lifecycle_policies_are_checked(ecr):
    with pytest.raises(ClientError, match="validation failure") as raised:
        ecr.put_lifecycle_policy(repositoryName="app", lifecyclePolicyText=text_of(rule(count=0)))
    assert code_of(raised) == "InvalidParameterException"
    with pytest.raises(ClientError) as raised:
        ecr.get_lifecycle_policy_preview(repositoryName="app")
    assert code_of(raised) == "LifecyclePolicyPreviewNotFoundException"
    with pytest.raises(ClientError) as raised:
        ecr.start_lifecycle_policy_preview(repositoryName="app")
    assert code_of(raised) == "LifecyclePolicyNotFoundException"


def test_images_expire_as_time_goes_by(tmp_path):
    clock = VirtualClock()
    # Open: a client signs with its own clock, which stands still while this one runs.
    with TestServer(tmp_path, clock, auth="open") as server:
        ecr = Account(server.endpoint, "111122223333", "111122223333", "any").client("ecr")
        ecr.create_repository(repositoryName="app")
        ecr.put_lifecycle_policy(repositoryName="app", lifecyclePolicyText=text_of(rule(kind="sinceImagePushed", count=1)))
        push(ecr, "app", image_of("one"), "v1")
        clock.advance(12 * 3600)
        push(ecr, "app", image_of("two"), "v2")
        assert len(ecr.list_images(repositoryName="app")["imageIds"]) == 2
        clock.advance(13 * 3600)
        assert [entry["imageTag"] for entry in ecr.list_images(repositoryName="app")["imageIds"]] == ["v2"]
